"""What `--filter KEY=VALUE` has in common, whatever is listed."""

from __future__ import annotations

from collections.abc import Collection


def filter_of(word: str, keys: Collection[str]) -> tuple[str, str]:
    """The key and the value. Raises NsrunError (NS002) for a key that is none of ``keys``."""
    from nsrun.diag import Diagnostic, NsrunError

    key, equals, value = word.partition("=")
    if not equals or key not in keys:
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{word} is no filter",
                help=("KEY=VALUE, where KEY is one of " + ", ".join(keys),),
            )
        )
    return key, value
