"""What commands about several containers share: one after the other, none stops another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, NsrunError

if TYPE_CHECKING:
    from nsrun.runtime.store import Container


def each(
    words: Sequence[str],
    act: Callable[[Container], object],
    *,
    instead: Callable[[str], bool] = lambda _: False,
) -> int:
    """Do ``act`` with the container of each word and print its name; 1 where any failed.

    False of ``act`` is a failure that it has told already. ``instead`` is asked about each word
    first: whether all is done that is to be done.
    """
    from nsrun.cli.output import report
    from nsrun.runtime import store

    failed = False
    for word in words:
        try:
            name = word
            if not instead(word):
                container = store.find(word)
                name = container.record.name
                _refuse_networks(container)
                if act(container) is False:
                    failed = True
                    continue
        except NsrunError as error:
            report(error.diagnostics)
            failed = True
        else:
            print(name, flush=True)
    return 1 if failed else 0


def _refuse_networks(container: Container) -> None:
    """What holds a stack's networks is a container to nsrun alone. Raises NsrunError (NS606)."""
    record = container.record
    if record.holds_networks:
        raise NsrunError(
            Diagnostic(
                code="NS606",
                summary=f"{record.name} holds the networks of the stack {record.stack}",
                help=(f"they go with the stack: nsrun down {record.stack}",),
            )
        )


def signal_number(word: str) -> int:
    """Raises NsrunError (NS002) for what is no signal."""
    import signal

    from nsrun.kernel import abi
    from nsrun.spec.names import nearest, signal_name

    name = signal_name(word)
    if name is None:
        known = [one.name for one in signal.Signals]
        advice = nearest(word, known) or "`kill -l` lists the names"
        raise NsrunError(
            Diagnostic(code="NS002", summary=f"no signal is called {word}", help=(advice,))
        )
    return abi.signal_number(name)
