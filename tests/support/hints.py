"""What an error says of its cause."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.runner import Result, Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The ``why`` and ``try`` lines of what was printed, joined; "" where there are none."""

    why: str
    tips: str
    text: str


def said(found: Result | str) -> Said:
    """Split what nsrun wrote on standard error."""
    text = found if isinstance(found, str) else found.stderr
    assert "Traceback" not in text and "NS003" not in text, text
    lines = [line.strip() for line in text.splitlines()]

    def after(word: str) -> str:
        return "\n".join(line.removeprefix(word) for line in lines if line.startswith(word))

    return Said(why=after("= why: "), tips=after("= try: "), text=text)


def run_after(runner: Runner, script: str, *words: str | Path) -> Result:
    """Run nsrun where root has run ``script`` in a mount namespace of its own before."""
    around = ["unshare", "--mount", "--propagation=private", "--", "/bin/sh", "-c"]
    done = subprocess.run(
        [*around, f'{script} && exec "$@"', "sh", *runner.argv(*words)],
        cwd=runner.cwd,
        env=runner.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr)
