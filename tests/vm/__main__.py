"""``python -m tests.vm [ARG...]``: boots the virtual machine, runs the tests of this folder inside.

The arguments are pytest's. The exit status is pytest's too; 0 with a line that says why where the
machine cannot be had, 1 with NSRUN_MUST_WORK=1 where qemu is installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support import vm
from tests.support.paths import PYTHON

# Seconds. Without KVM each run of nsrun takes some, on a busy machine many.
_PATIENCE = 1800.0
_PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--color=no", "-v")


def main(arguments: list[str]) -> int:
    """The exit status."""
    if reason := vm.lacks():
        print(f"skipped: {reason}")
        must = os.environ.get("NSRUN_MUST_WORK") == "1" and shutil.which(vm.QEMU) is not None
        return 1 if must else 0
    os.environ["NSRUN_VM_SHOW"] = "1"
    command = shlex.join([PYTHON, *_PYTEST, *(arguments or ["tests/vm"])])
    with tempfile.TemporaryDirectory(prefix="nsrun-vm-") as folder:
        ended = vm.run(command, Path(folder), timeout=_PATIENCE)
    if ended.status is None:
        print(f"\nthe machine ended without a word after {ended.seconds:.0f} s")
        return 1
    print(f"\n{ended.accelerator}, {ended.seconds:.0f} s")
    return ended.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
