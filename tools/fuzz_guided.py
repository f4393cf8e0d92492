"""Fuzzes what reads strangers' bytes, guided by which lines of nsrun they reach (atheris).

    .venv/bin/python -m tools.fuzz_guided [SECONDS [TARGET...]]     default 60 seconds a target

    spec      a text -> its document, its spec, its plan
    stack     the same of a stack, as far as `validate` goes
    template  a template's own syntax; it is compiled and not rendered, which takes a process
    seccomp   a seccomp profile as JSON, to the filter
    env       a file of `env_file`
    state     a file of a container's folder, as `ps` and `inspect` read it

Each has to end in a result or in diagnostics; anything else is a finding, whose input stays in
build/fuzz/guided/TARGET and is tried again by `python -m tools.fuzz_guided FILE`. atheris is
installed from PyPI into build/fuzz/packages; where it has no wheel for this Python nothing is
fuzzed, which is said.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "build" / "fuzz" / "packages"
KEPT = ROOT / "build" / "fuzz" / "guided"
SIZE = 16 << 10
# A finding as well: seconds and MiB of one input, with the instruments.
SLOW, LARGE = 10, 1024

Target = Callable[[bytes], None]


def main(words: list[str]) -> int:
    if words[:1] == ["--one"]:
        return one(words[1], words[2:])
    files = [word for word in words if os.path.isfile(word)]
    if files:
        return max(run(Path(file).resolve().parent.name, [file]) for file in files)
    why = missing()
    if why:
        print(f"fuzz_guided: left out: {why}")
        return 0
    seconds = words[0] if words else "60"
    worst = 0
    for name in words[1:] or TARGETS:
        corpus = KEPT / name / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds(name)):
            (corpus / f"seed-{number}").write_bytes(data)
        status = run(name, [
            str(corpus), f"-artifact_prefix={KEPT / name}/", f"-max_total_time={seconds}",
            f"-max_len={SIZE}", f"-timeout={SLOW}", f"-rss_limit_mb={LARGE}", "-verbosity=0",
        ])  # fmt: skip
        print(
            f"fuzz_guided: {name}: {'sound' if status == 0 else f'failed ({status})'}", flush=True
        )
        worst = max(worst, abs(status))
    return worst


def run(name: str, options: list[str]) -> int:
    """One target in a process of its own: what is instrumented is instrumented while imported."""
    words = [sys.executable, "-m", "tools.fuzz_guided", "--one", name, *options]
    return subprocess.run(words, check=False, cwd=ROOT).returncode


def missing() -> str:
    """Why atheris cannot be had, "" where it is there now."""
    if (PACKAGES / "atheris").is_dir():
        return ""
    words = [
        sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install",
        "--no-deps", "--only-binary=:all:", f"--target={PACKAGES}", "atheris>=2.3",
    ]  # fmt: skip
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    version = ".".join(map(str, sys.version_info[:2]))
    lines = done.stderr.strip().splitlines()
    told = f" ({lines[-1]})" if lines else ""
    return f"no atheris for Python {version} here{told}" if done.returncode else ""


def one(name: str, options: list[str]) -> int:
    sys.path.insert(0, str(PACKAGES))
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        # To try an input again its instruments are not needed.
        for file in options:
            TARGETS[name]()(Path(file).read_bytes())
        return 0
    with atheris.instrument_imports(include=["nsrun"]):
        target = TARGETS[name]()
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()
    return 0


# --- targets -----------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _spec() -> Target:
    from nsrun.diag import NsrunError
    from nsrun.plan.build import plan
    from nsrun.spec.document import parse_document
    from nsrun.spec.load import load_document
    from tests.support.planning import ORDINARY
    from tests.support.planning import ROOT as ROOT_USER

    def target(data: bytes) -> None:
        with contextlib.suppress(NsrunError):
            spec, _ = load_document(parse_document(_text(data), "spec.yaml"))
            for facts in (ORDINARY, ROOT_USER):
                with contextlib.suppress(NsrunError):
                    plan(spec, facts)

    return target


def _stack() -> Target:
    from nsrun.diag import NsrunError
    from nsrun.spec.document import parse_document
    from nsrun.spec.schema import validate

    def target(data: bytes) -> None:
        with contextlib.suppress(NsrunError):
            for found in validate(parse_document(f"containers:\n{_text(data)}", "stack.yaml")):
                assert found.summary

    return target


def _template() -> Target:
    from jinja2 import TemplateSyntaxError

    from nsrun.spec.jinja import Environment

    def target(data: bytes) -> None:
        environment = Environment(lambda _: _text(data), {})
        with contextlib.suppress(TemplateSyntaxError):
            environment.get_template("input.yaml.j2")

    return target


def _seccomp() -> Target:
    from nsrun.diag import NsrunError
    from nsrun.plan.build import plan
    from nsrun.spec.document import parse_document
    from nsrun.spec.load import load_document
    from tests.support.planning import ROOT as ROOT_USER

    def target(data: bytes) -> None:
        text = f'{{"command": ["sh"], "namespaces": ["user"], "seccomp":\n{_text(data)}\n}}'
        with contextlib.suppress(NsrunError):
            spec, _ = load_document(parse_document(text, "spec.json"))
            plan(spec, ROOT_USER)

    return target


def _env() -> Target:
    from nsrun.diag import Collector, NsrunError
    from nsrun.spec.envfile import read_env_file

    file = KEPT / "env" / f"file-{os.getpid()}"

    def target(data: bytes) -> None:
        file.write_bytes(data)
        try:
            with contextlib.suppress(NsrunError):
                report = Collector()
                found = read_env_file(str(file), None, report)
                assert report.diagnostics or "\0" not in "".join(filter(None, found.values()))
        finally:
            file.unlink()

    return target


_STATE = ("container.json", "members.json", "pid", "exit", "oom", "plan")


def _state() -> Target:
    from nsrun import cli
    from nsrun.runtime import inspect, stack_store, store  # noqa: F401

    # libFuzzer ends the process without a word to Python: below /tmp it would be left behind.
    web = KEPT / "state" / "folder" / "containers" / "web"
    shop = KEPT / "state" / "folder" / "stacks" / "shop"
    for folder in (web, shop):
        folder.mkdir(parents=True, exist_ok=True)
    store.folder = lambda environ=os.environ: str(web.parent)
    stack_store.is_kept = lambda name: True

    def target(data: bytes) -> None:
        """The first byte says which file it is."""
        name = _STATE[data[0] % len(_STATE)] if data else _STATE[0]
        (web / "container.json").write_text(json.dumps(_SOUND))
        place = (shop if name == "members.json" else web) / name
        place.write_bytes(data[1:])
        for words in (["ps", "-a"], ["ps", "-a", "--format=json"], ["inspect", "--plan", "web"]):
            out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.carry_out(words)
                out.flush()
                err.flush()
            said = err.buffer.getvalue()
            if b"NS003" in said:
                raise AssertionError(said.decode())
        place.unlink()

    return target


_SOUND = {
    "format": 1, "id": "ab" * 32, "name": "web", "spec": "/web.yaml", "sha256": "0",
    "command": ["sh"], "created": 1, "stack": "shop",
}  # fmt: skip
TARGETS: dict[str, Callable[[], Target]] = {
    "spec": _spec, "stack": _stack, "template": _template, "seccomp": _seccomp, "env": _env,
    "state": _state,
}  # fmt: skip
_PROFILE = b"""{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures":
["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args":
[{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}], "includes": {"caps":
["CAP_SYS_ADMIN"], "minKernel": "4.8"}}]}"""


def seeds(name: str) -> list[bytes]:
    match name:
        case "spec" | "template":
            ending = "*.j2" if name == "template" else "*.y*ml"
            files = glob.glob(f"specs/**/{ending}", root_dir=ROOT, recursive=True)
            return [(ROOT / file).read_bytes() for file in files]
        case "stack":
            return [b"  a: {command: [sh], ports: ['80:80'], restart: always}\n"]
        case "seccomp":
            return [_PROFILE]
        case "env":
            return [b"A=b\nexport B='c d'\nC=\"e\\n$A\"\nD\n# e\n"]
        case _:
            texts = [json.dumps(_SOUND), json.dumps({"web": {"restarts": 1}}), "1\n", "0 1 2\n"]
            return [bytes([number]) + text.encode() for number, text in enumerate(texts)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
