"""Fuzzes the front: what reads specs, stacks and templates, and plans them.

    .venv/bin/python -m tools.fuzz_front [SECONDS] [FILE...]      default 60 seconds

Each input, of 1 MiB at most, goes through ``nsrun validate`` and ``nsrun plan`` in a process of its
own, forked from one with everything imported. It has to end with 0, or with 1 and a diagnostic
that is not of nsrun's own fault, within 2 s of processor time and 256 MiB resident. The
inputs are first those of :func:`hostile`, then mutations of ``specs/``; FILEs are tried alone.
What fails is kept in build/fuzz/front.
"""

# ruff: noqa: E501 -- an input of a table is read on one line

from __future__ import annotations

import glob
import hashlib
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator

SIZE = 1 << 20
SECONDS = 2.0
RESIDENT = 256 << 10  # KiB, as getrusage(2) has it
KEPT = "build/fuzz/front"
COMMANDS = ("validate", "plan")

HEAD = "command: [sh]\n"
NETWORK = f"{HEAD}namespaces: [user, network]\nnetwork:\n  "
MOUNTS = f"{HEAD}namespaces: [user, mount]\nmounts:\n"
# Head, entry with `#` for its number, tail: filled up to 1 MiB, and to fewer entries.
LISTS = (
    ("command: [", "a,", "]"), ("command: [", "{},", "]"), (HEAD, "k#: 1\n", ""),
    (HEAD, "a: 1\n", ""), (f"{HEAD}env:\n", "  A#: b\n", ""), (f"{HEAD}env:\n", "  A#: []\n", ""),
    (MOUNTS, "- {target: /m#, type: tmpfs}\n", ""), (MOUNTS, "- /tmp:/m#\n", ""),
    (MOUNTS, "- /s#:/m\n", ""), (MOUNTS, "- {taget: a}\n", ""), (MOUNTS, "- {}\n", ""),
    (f"{MOUNTS}- {{type: overlay, target: /a, lower: [", "/a#,", "]}"),
    (f"{MOUNTS}- {{type: tmpfs, target: /a, options: [", "a#=1,", "]}"),
    (f"{HEAD}namespaces: [user, mount]\nrootfs: /\nfiles:\n", "  /f#: {content: a}\n", ""),
    (f"{HEAD}namespaces: [user, mount]\nrootfs: /\nmasked_paths: [", "/m#,", "]"),
    (f"{HEAD}namespaces: [user, mount]\nrootfs: /\ndevices: [", "/dev/null,", "]"),
    (f"{HEAD}capabilities: [", "CAP_X#,", "]"), (f"{HEAD}namespaces: [", "u#,", "]"),
    (f"{HEAD}namespaces: [user]\nidmap: {{gid: ['0:0:1'], uid: [", "'#:#:1',", "]}"),
    (f"{HEAD}sysctl:\n", "  net.a#: b\n", ""), (f"{HEAD}rlimits:\n", "  a#: 1\n", ""),
    (f"{HEAD}landlock: {{read: [", "/l#,", "]}"), (f"{HEAD}hooks: {{prestart: [", "{path: /a},", "]}"),
    (f"{HEAD}resources: {{unified: {{", "a.b#: 1,", "}}"), (f"{HEAD}user: {{groups: [", "#,", "]}"),
    (f"{NETWORK}interfaces:\n", "  - {type: veth, name: e#}\n", ""),
    (f"{NETWORK}interfaces:\n", "  - {type: dummy, name: e#}\n", ""),
    (f"{NETWORK}mode: user\n  ports: [", "'#:#',", "]"), (f"{NETWORK}hosts: {{", "h#: 10.0.0.3,", "}"),
    (f"{NETWORK}routes: [", "{to: 10.0.0.#/32, via: 10.0.0.1},", "]"),
    (f"{HEAD}seccomp:\n  defaultAction: SCMP_ACT_ERRNO\n  syscalls:\n", "  - {names: [read], action: SCMP_ACT_ALLOW, args: [{index: 0, value: #, op: SCMP_CMP_EQ}]}\n", ""),
    (f"{HEAD}seccomp:\n  defaultAction: SCMP_ACT_ERRNO\n  syscalls:\n  - action: SCMP_ACT_ALLOW\n    names: [", "r#,", "]"),
    ("containers:\n", "  c#: {command: [sh]}\n", ""), ("containers:\n", "  a#: {b: 1}\n", ""),
    ("containers:\n", "  c#: {extends: ./none}\n", ""),
    ("containers:\n", "  c#: {command: [sh], depends_on: [c0]}\n", ""),
    ("containers: {a: {command: [sh]}}\nnetworks:\n", "  n#: {}\n", ""),
    ("containers: {a: {command: [sh]}}\nvolumes:\n", "  v#: {}\n", ""),
    ("containers: {a: {command: [sh]}}\ninclude:\n", "- ./none#\n", ""),
    ("", "k#: &a# 1\n", ""), ("x-a: &a b\ncommand: [", "*a,", "]"), ("", "- !!python/x [a]\n", ""),
    ("x-a: &a {a: 1}\nx-b: {<<: [", "*a,", "]}"),
)  # fmt: skip
# The same a million times.
PIECES = (
    ",", "[", "{", "{a: ", "- ", "? ", ":", "'", '"', "&", "*", "!", "\n", " ", "\t", "#", "|", "%",
    "---\n", "a", "\0", "9", "é", "&a [", "<<: ", "\\",
)  # fmt: skip
VALUES = (
    "9" * 400, ".inf", ".nan", "1e400", "-1e400", "190:20:30", "0xffffffffffffffffffff", "no", "~",
    "2001-12-14t21:59:43.10-05:00", '"\\0"', '"\\ud800"', "a" * 100_000, "!!int a", "[[]]", "{a: {}}",
    "-1", "18446744073709551616", "'/../../..'", '"\\u2028"', "1.0", "1_000", "''",
)  # fmt: skip
TEMPLATES = (
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    '{{ "a" * 10**9 }}', "{{ range(10**9) | list }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% include 'input.yaml.j2' %}", "{% extends 'input.yaml.j2' %}", "{{ 9**9**9 }}", "{{ 10**5000 }}",
    '{{ "%1000000000d" | format(1) }}', '{{ "{:1000000000}".format(1) }}', '{{ "a" | center(10**9) }}',
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ range(100000) | slice(10**9) | list }}",
    "{% set n = namespace(a='x') %}{% for i in range(100) %}{% set n.a = n.a ~ n.a %}{% endfor %}{{ n.a }}",
    "{% set n = namespace(a=[]) %}{% for i in range(99999) %}{% set n.a=[n.a] %}{% endfor %}{{ n.a }}",
    "{% set d = {} %}{% set _ = d.update({'a': d}) %}{{ d }}", "{{ '\\ud800' }}", "{{ 1 | round(10**9) }}",
    "{{ values" + ".a" * 300_000 + " }}", "{{ " + "(" * 300_000, "{{ 1" + "+1" * 400_000 + " }}",
    "{% if 1 %}" * 30_000, "{{" * 400_000, "{{ 1 }}\n" * 100_000, "{{ " + "9" * 1_000_000 + " }}",
)  # fmt: skip


def hostile() -> Iterator[tuple[str, bytes]]:
    """Inputs that were made to hurt, each with what its file is called."""
    for head, entry, tail in LISTS:
        for most in (SIZE, 15_000, 3_000):
            yield "input.yaml", filled(head, entry, tail, most).encode()
    for piece in PIECES:
        count = SIZE // len(piece.encode())
        yield "input.yaml", piece.encode() * count
        yield "input.yaml", f"{HEAD}x-a: {piece * (count // 2)}".encode()
    for template in TEMPLATES:
        yield "input.yaml.j2", template.encode()
    for text in (b"\xff\xfec\0", b"a: \xed\xa0\x80", b"\x7fELF" + bytes(1000), b"a" * (SIZE + 1)):
        yield "input.yaml", text


def filled(head: str, entry: str, tail: str, most: int) -> str:
    parts = [head]
    room = SIZE - len(head) - len(tail)
    for number in range(most):
        part = entry.replace("#", str(number))
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return "".join(parts) + tail


def mutations(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Specs of ``specs/``, changed in some places; without an end."""
    files = [f for f in glob.glob("specs/**/*.y*ml*", recursive=True) if not f.endswith(".plan")]
    texts = []
    for file in files:
        with open(file, "rb") as stream:
            texts.append(("input.yaml.j2" if file.endswith(".j2") else "input.yaml", stream.read()))
    while True:
        name, text = chance.choice(texts)
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            text = changed(chance, text, chance.choice(texts)[1])[:SIZE]
        yield name, text


def changed(chance: random.Random, text: bytes, other: bytes) -> bytes:
    lines = text.split(b"\n")
    row = chance.randrange(len(lines))
    at = chance.randrange(len(text) + 1)
    match chance.randrange(8):
        case 0:
            return (
                text[:at] + chance.choice(PIECES).encode() * chance.choice((1, 3, 70)) + text[at:]
            )
        case 1:
            return text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
        case 2:
            key, colon, _ = lines[row].partition(b": ")
            lines[row] = key + colon + chance.choice(VALUES).encode()
        case 3:
            del lines[row]
        case 4:
            lines.insert(row, chance.choice(other.split(b"\n")))
        case 5:
            lines[row : row + 1] = [lines[row]] * chance.choice((2, 300, 5000))
        case 6:
            return text[: chance.randrange(len(text) + 1)] + text[at:]
        case _:
            lines[row] = chance.choice((b" ", b"  ", b"- ", b"")) + lines[row].lstrip()
    return b"\n".join(lines)


# --- one input ---------------------------------------------------------------------------------


def tried(command: str, folder: str, name: str) -> str:
    """What is wrong with how nsrun takes a file of ``folder``, "" for nothing."""
    from nsrun.cli import carry_out

    output = os.path.join(folder, "output")
    descriptor = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    pid = os.fork()
    if pid == 0:
        # Twice the limit: how long it would take is told as well.
        resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(folder)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        status = 70
        try:
            status = carry_out([command, name])
            sys.stdout.flush()
        finally:
            os._exit(status)
    _, code, used = os.wait4(pid, 0)
    with open(descriptor, "rb") as stream:
        stream.seek(0)
        said = stream.read()
    status = os.waitstatus_to_exitcode(code)
    took = used.ru_utime + used.ru_stime
    if status not in (0, 1):
        return f"it ends with {status} after {took:.1f} s"
    if b"error[NS003]" in said or b"Traceback" in said:
        return said[-300:].decode("utf-8", "replace")
    if status == 1 and b"error[NS" not in said:
        return "it fails without a diagnostic"
    if took > SECONDS:
        return f"it takes {took:.1f} s"
    return f"it takes {used.ru_maxrss >> 10} MiB" if used.ru_maxrss > RESIDENT else ""


def main(words: list[str]) -> int:
    seconds = float(words[0]) if words else 60.0
    os.makedirs(KEPT, exist_ok=True)
    # What every run imports; a run is then a fork.
    import jsonschema  # noqa: F401
    import yaml  # noqa: F401

    import nsrun.cli.plan
    import nsrun.cli.validate
    import nsrun.plan.build
    import nsrun.spec.template_child  # noqa: F401

    seed = int(os.environ.get("FUZZ_SEED", time.time_ns() % 1_000_000))
    end = time.monotonic() + seconds
    count = bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, data in inputs(words[1:], seed):
            if time.monotonic() > end:
                break
            with open(os.path.join(folder, name), "wb") as stream:
                stream.write(data)
            for command in COMMANDS:
                count += 1
                wrong = tried(command, folder, name)
                if wrong:
                    bad += 1
                    kept = f"{KEPT}/{hashlib.sha256(data).hexdigest()[:12]}-{name}"
                    with open(kept, "wb") as stream:
                        stream.write(data)
                    print(f"{kept}: nsrun {command}: {wrong}", flush=True)
    print(f"fuzz_front: {count} runs, {bad} failed (FUZZ_SEED={seed})")
    return 1 if bad else 0


def inputs(files: list[str], seed: int) -> Iterator[tuple[str, bytes]]:
    if not files:
        yield from hostile()
        yield from mutations(random.Random(seed))
    for file in files:
        with open(file, "rb") as stream:
            yield "input.yaml.j2" if file.endswith(".j2") else "input.yaml", stream.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
