"""A short `make soak`: its loads leave nothing, and it finds what a leak leaves."""

from __future__ import annotations

import subprocess

from tests.support.paths import ROOT
from tests.support.requires import requires


@requires("root", "native")
def test_a_short_soak_finds_nothing_but_what_leaks() -> None:
    done = subprocess.run(
        [ROOT / "tools" / "soak", "--quick"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nsrun restart, native" in done.stdout
    # The control, which keeps a mount after each of three starts and one link, was seen.
    assert "mounts: 3 left" in done.stdout
    assert "links: 1 left" in done.stdout
