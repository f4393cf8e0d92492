"""Say why the interpreter running this cannot serve nsrun's .venv; nothing where it can.

It runs under any Python, so that an old one can say that it is too old.
"""

import os
import stat
import sys

OLDEST = (3, 11)


def closed_folder(path):
    """The first folder on the way to path that other users cannot enter, or None."""
    path = os.path.realpath(path)
    parts = path.split("/")[1:-1]
    folders = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
    for folder in folders:
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return None


def complaint():
    if sys.version_info < OLDEST:
        return "it is Python %d.%d, and nsrun needs %d.%d" % (sys.version_info[:2] + OLDEST)
    # The rootless tests run nsrun as another user, and a .venv only points to its interpreter:
    # the program and its library must both be within that user's reach.
    for path in (sys.executable, os.__file__):
        folder = closed_folder(path)
        if folder:
            return "it is below %s, which other users cannot enter" % folder
    return ""


words = complaint()
if words:
    print(words)
    sys.exit(1)
