#!/usr/bin/env python3
"""Writes docs/steps.md from the operations, their JSON Schema and the makers of system calls.

With --check nothing is written; the exit status is 1 where the file is not current.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nsrun.kernel import calls, values  # noqa: E402  # found beside this file, installed or not
from nsrun.kernel.values import Call  # noqa: E402
from nsrun.plan.codec_args import ARG  # noqa: E402
from nsrun.plan.codec_ops import OP, OPERATIONS  # noqa: E402
from nsrun.render.steps import arg_text, step_text  # noqa: E402

TARGET = ROOT / "docs" / "steps.md"
SCHEMA = ROOT / "schemas" / "plan.schema.json"

HEAD = """\
# Steps

<!-- Made by tools/gen_steps_docs.py from the operations; do not edit. -->

A plan is a list of actions; an action is a list of steps; a step is one of the operations below.
`nsrun plan SPEC` lists them, `nsrun plan --json SPEC` prints them as they stand here, and
`nsrun schema plan` is their JSON Schema.

Two tracks run side by side: the **parent** (`p0`, `p1`, …) is nsrun's own process, the **child**
(`c0`, `c1`, …) the one that becomes the command. Only the syncs (`#name`) order the two. A register
(`%name`) is a value known only at replay; exactly one step writes it.

After a step in the listing `[or EEXIST]` means that this errno counts as success, and
`[ENOENT skips]` that it leaves out the rest of the action. Every other failure ends the run, and
what had been done is undone, last first.
"""

ARGUMENTS = {
    "integer": "Int",
    "string": "Str",
    "format": "Fmt",
    "length": "Length",
    "register": "Reg",
    "strings": "Strings",
    "bytes": "Bytes",
    "out": "Out",
}


def main() -> int:
    text = document()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(
        f"{TARGET.relative_to(ROOT)} is not current: run tools/gen_steps_docs.py", file=sys.stderr
    )
    return 1


def document() -> str:
    """The whole of docs/steps.md."""
    definitions = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]
    parts = [HEAD, "## Operations\n"]
    for name, (cls, _) in OPERATIONS.items():
        parts += _operation(name, cls, definitions[name])
    parts.append("## Arguments of a system call\n")
    for name, cls_name in ARGUMENTS.items():
        parts += _argument(name, getattr(values, cls_name), definitions[name])
    parts += _system_calls()
    return "\n".join(parts)


# --- sections ----------------------------------------------------------------------------------


def _operation(name: str, cls: type, schema: dict[str, Any]) -> Iterator[str]:
    sample = _sample(schema)
    yield f"### `{name}`\n"
    yield _prose(cls) + "\n"
    yield from _table(schema)
    yield f"In the listing:\n\n    {step_text(OP.decode(sample))}\n"
    yield _json(sample)


def _argument(name: str, cls: type, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {schema['title']}\n"
    yield _prose(cls) + "\n"
    objects = [schema, *schema.get("anyOf", [])]
    samples: list[Any] = []
    for one in objects:
        if "properties" in one:
            yield from _table(one)
            samples.append(_sample(one))
    samples = {"string": ["/proc"], "integer": [3, *samples]}.get(name, samples)
    for sample in samples:
        shown = arg_text(ARG.decode(sample))
        yield f"`{json.dumps(sample, ensure_ascii=False)}`"
        yield f"is listed as `{shown}`.\n" if not _merely_a_result(sample) else "is not listed.\n"


def _merely_a_result(sample: Any) -> bool:
    return isinstance(sample, dict) and "save" in sample and "expect" not in sample


def _system_calls() -> Iterator[str]:
    yield "## System calls\n"
    yield "The planner makes every call through one of these; arguments have the kernel's names.\n"
    yield "| call | from |\n|---|---|"
    makers = [f for _, f in inspect.getmembers(calls, inspect.isfunction) if _makes_call(f)]
    for maker in sorted(makers, key=lambda f: f.__name__):
        yield f"| `{_signature(maker)}` | {_cell(_prose(maker).splitlines()[0])} |"
    yield ""


def _makes_call(function: Callable[..., object]) -> bool:
    made = function.__annotations__.get("return") in ("Call", Call)
    own = function.__module__ == calls.__name__ and not function.__name__.startswith("_")
    return made and own and function.__name__ != "allow"


def _signature(function: Callable[..., object]) -> str:
    words = []
    star = False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append(f"{name}...")
            star = True
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        words.append(name)
    return f"{function.__name__}({', '.join(words)})"


# --- pieces ------------------------------------------------------------------------------------


def _prose(thing: object) -> str:
    """A docstring as Markdown."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r":(?:class|func|mod|data|meth):`~?([^`]*)`", r"`\1`", text)
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(schema: dict[str, Any]) -> Iterator[str]:
    required = set(schema["required"])
    yield "| key | | meaning |\n|---|---|---|"
    for key, member in schema["properties"].items():
        needed = "required" if key in required else ""
        yield f"| `{key}` | {needed} | {_cell(member['description'])} |"
    yield ""


def _sample(schema: dict[str, Any]) -> dict[str, Any]:
    """An object with every key, each with its first example."""
    return {key: member["examples"][0] for key, member in schema["properties"].items()}


def _json(sample: Any) -> str:
    lines = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in sample.items()]
    return "In JSON, with every key:\n\n```json\n{\n" + ",\n".join(lines) + "\n}\n```\n"


if __name__ == "__main__":
    raise SystemExit(main())
