"""Running nsrun as a user would: as root or as an ordinary user, and what came of it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.support.paths import PYTHON, ROOT
from tests.support.users import User

# Seconds a run may take: a machine that is emulated is a slow one (tests/support/vm.py).
TIMEOUT = float(os.environ.get("NSRUN_TEST_TIMEOUT", "30"))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# $1 pairs of files to bind follow, then the program; a mount that fails is no run of nsrun's.
_BIND_AND_EXEC = """
n=$1; shift
while [ "$n" -gt 0 ]; do mount --bind "$1" "$2" || exit 99; shift 2; n=$((n-1)); done
exec "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended: the exit status as a shell gives it, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    def ok(self) -> str:
        """The standard output of a run that ended with 0; otherwise fails and shows all."""
        assert self.status == 0, str(self)
        return self.stdout

    def __str__(self) -> str:
        return f"exit status {self.status}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Starts nsrun for ``user``, in ``cwd``.

    ``mounts``: the mount namespace it is started in: the caller's own, or a copy of it that is
    private or shared as a whole. An ordinary user always gets a copy: its /etc is there.
    ``wrapper`` precedes the interpreter (``("strace", "-f", "--")``) as the user's own process.
    """

    user: User
    cwd: Path
    mounts: Literal["caller", "private", "shared"] = "caller"
    env: Mapping[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()

    def with_(self, **changes: object) -> Runner:
        """The same with other fields; ``env`` is added to."""
        if "env" in changes:
            changes["env"] = {**self.env, **changes["env"]}  # type: ignore[dict-item]
        return replace(self, **changes)  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        """The whole environment of the process: nothing of the caller's but what is here."""
        return {
            "PATH": _PATH,
            "HOME": str(self.user.home),
            "USER": self.user.name,
            "XDG_RUNTIME_DIR": str(self.user.runtime),
            # A cache of the test's own: no plan of another run is used, none is left.
            "NSRUN_CACHE_DIR": str(self.user.cache),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self._tree()),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.env,
        }

    def argv(self, *words: str | Path) -> list[str]:
        """The argument vector that runs ``nsrun WORDS...``; its pid is nsrun's own."""
        nsrun = [*self.wrapper, str(self._reachable(Path(PYTHON))), "-P", "-m", "nsrun"]
        return self.argv_of(*nsrun, *words)

    def argv_of(self, *program: str | Path) -> list[str]:
        """The argument vector that runs any ``program`` as the user, in the same place."""
        inner = [str(word) for word in program]
        if not self.user.is_caller:
            ids = [f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--clear-groups"]
            inner = ["setpriv", *ids, "--", *inner]
        binds = self._binds()
        if self.mounts == "caller" and not binds:
            return inner
        propagation = "shared" if self.mounts == "shared" else "private"
        pairs = [str(path) for pair in binds for path in pair]
        return [
            "unshare",
            "--mount",
            f"--propagation={propagation}",
            "--",
            "/bin/sh",
            "-c",
            _BIND_AND_EXEC,
            "sh",
            str(len(binds)),
            *pairs,
            *inner,
        ]

    def run(self, *words: str | Path, stdin: str | None = None, timeout: float = TIMEOUT) -> Result:
        """Run ``nsrun WORDS...`` to its end; without ``stdin`` it reads /dev/null."""
        return self._finish(self.argv(*words), stdin, timeout)

    def run_program(
        self, *program: str | Path, stdin: str | None = None, timeout: float = TIMEOUT
    ) -> Result:
        """Run any program to its end, as the user and in the same place."""
        return self._finish(self.argv_of(*program), stdin, timeout)

    def start(self, *words: str | Path, **keywords: object) -> subprocess.Popen[str]:
        """Start ``nsrun WORDS...`` and leave it to the caller; pipes unless keywords say else."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            self.argv(*words),
            cwd=self.cwd,
            env=self.environment(),
            text=True,
            errors="backslashreplace",
            **{**streams, **keywords},
        )

    def _finish(self, argv: Sequence[str], stdin: str | None, timeout: float) -> Result:
        done = subprocess.run(
            argv,
            cwd=self.cwd,
            env=self.environment(),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
            check=False,
        )
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Result(status=status, stdout=done.stdout, stderr=done.stderr)

    # --- a checkout that the user cannot enter is bound to a place that it can ---------------

    def _tree(self) -> Path:
        return ROOT if self.user.is_caller or reachable(ROOT) else self.user.home.parent / "tree"

    def _reachable(self, path: Path) -> Path:
        tree = self._tree()
        return tree / path.relative_to(ROOT) if path.is_relative_to(ROOT) else path

    def _binds(self) -> tuple[tuple[Path, Path], ...]:
        tree = self._tree()
        if tree == ROOT:
            return self.user.binds
        tree.mkdir(exist_ok=True)
        return (*self.user.binds, (ROOT, tree))


def reachable(path: Path) -> bool:
    """Whether every user can enter all folders on the way to ``path`` and read it."""
    return all(os.stat(folder).st_mode & stat.S_IXOTH for folder in (path, *path.parents))
