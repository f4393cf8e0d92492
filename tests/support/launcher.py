"""The installed launcher, run as it is, and whether it had to ask Python."""

from __future__ import annotations

from pathlib import Path

from tests.support.box import Box
from tests.support.paths import PYTHON
from tests.support.runner import TIMEOUT, Result, Runner


class Launcher:
    """Runs .venv/bin/nsrun itself as a box's user, and tells whether Python was executed."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.cache = box.runner.user.cache
        self.program = box.runner._reachable(Path(PYTHON).parent / "nsrun")
        self._trace = box.folder.parent / "execve"

    def run(
        self,
        *words: str | Path,
        runner: Runner | None = None,
        before: tuple[str, ...] = (),
        stdin: str | None = None,
    ) -> Result:
        """Run ``nsrun WORDS...`` to its end; ``before`` executes it (``("setpriv", "--nnp")``)."""
        runner = runner or self.box.runner
        # Outside, as the test's own user: a traced set-uid program has its rights only where
        # the tracer has them too (ptrace(2)).
        strace = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", str(self._trace)]
        argv = runner.argv_of(*before, self.program, *words)
        return runner._finish([*strace, *argv], stdin, TIMEOUT)

    @property
    def thought(self) -> bool:
        """Whether the last run executed Python before the command."""
        return "nsrun-python" in self._trace.read_text()

    def entries(self) -> list[Path]:
        """The cache's files."""
        return sorted(self.cache.iterdir())
