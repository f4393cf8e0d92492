#!/usr/bin/env python3
"""Writes each spec's plan, executed part alone, and an entry as a fuzzer's first inputs."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nsrun.diag import NsrunError  # noqa: E402  # found beside this file, installed or not
from nsrun.plan import binary, entry  # noqa: E402
from nsrun.runtime.launch import plan_to_keep  # noqa: E402
from nsrun.spec.load import load  # noqa: E402


def main() -> int:
    folder = Path(sys.argv[1])
    for spec in sorted((ROOT / "specs").rglob("*.yaml")):
        try:
            plan, depends = plan_to_keep(load(str(spec))[0], ())
        except NsrunError:
            continue  # what joins a namespace that is not there
        data = binary.encode(plan)
        size = int.from_bytes(data[12:16], "little")
        (folder / f"{spec.stem}.plan").write_bytes(data[:size])
        if depends is not None:
            (folder / f"{spec.stem}.entry").write_bytes(entry.encode(b"key", depends))
    return 0


if __name__ == "__main__":
    sys.exit(main())
