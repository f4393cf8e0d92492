"""nsrun as its users have it: a wheel of this checkout, installed by pip.

Of a checkout's own modules each counts among what a cached plan depends on, and is looked at by
each start; of what pip installs, which is never edited in place, one does.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.area import ROOT, Area, BenchError


def install(area: Area) -> Path:
    """The program, in an environment in the area's folder that has its dependencies from the
    bench's. Raises BenchError."""
    place, wheels = area.folder / "installed", area.sub("wheels")
    _run(sys.executable, "-m", "venv", "--without-pip", str(place))
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
    (wheel,) = wheels.glob("*.whl")
    python = str(place / "bin/python")
    _pip("--python", python, "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = place.glob("lib/python*/site-packages")
    # Only a folder of the environment's own has its .pth files read (site): not those by which
    # the checkout is found there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin/nsrun"


def _pip(*words: str) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing is said"]
        raise BenchError(f"nsrun cannot be installed: {last[0]}")
