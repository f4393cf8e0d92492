"""Write the golden plans again: ``python -m tests.golden.update [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.golden.reference import golden_files, shown_path
from tests.support.paths import ROOT, SPECS


def existing() -> set[Path]:
    return {*SPECS.rglob("*.plan"), *(ROOT / "tests/golden/root").glob("*.plan")}


def main(arguments: list[str]) -> int:
    """Exit status 1 where ``--check`` finds a file that is not as it would be written."""
    check = arguments == ["--check"]
    if arguments and not check:
        sys.stderr.write("usage: python -m tests.golden.update [--check]\n")
        return 2
    wanted = golden_files()
    stale = [f for f, text in wanted.items() if not f.exists() or f.read_text() != text]
    extra = sorted(existing() - wanted.keys())
    for file in (*stale, *extra):
        print(f"{'stale' if check else 'written' if file in wanted else 'removed'}: "
              f"{shown_path(file)}")
    if check:
        return 1 if stale or extra else 0
    for file in stale:
        file.parent.mkdir(exist_ok=True)
        file.write_text(wanted[file])
    for file in extra:
        file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
