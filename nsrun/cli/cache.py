"""``nsrun cache``: the plans kept of earlier runs."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A run's plan is kept, and used by the next run of the same words as long as all that it "
        "depended on is as it was. `info` says where and how much, `clear` forgets all of it."
    )
    parser.add_argument(
        "action", nargs="?", choices=("info", "clear"), default="info", help="info, or clear"
    )
    examples(
        parser,
        """
nsrun cache
nsrun cache clear
""",
    )


def main(args: argparse.Namespace) -> int:
    import os

    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import cache

    if args.action == "clear":
        try:
            count = cache.clear(os.environ)
        except OSError as error:
            summary = f"cannot clear {error.filename}: {error.strerror}"
            raise NsrunError(Diagnostic(code="NS001", summary=summary)) from None
        print(f"{count} plans forgotten")
        return 0
    found = cache.info(os.environ)
    print(f"folder   {found.folder or 'none: neither XDG_CACHE_HOME nor HOME is set'}")
    print(f"plans    {found.entries}, at most {cache.ENTRIES_MAX}")
    print(f"size     {found.bytes / 1024:.0f} KiB, at most {cache.BYTES_MAX >> 20} MiB")
    return 0
