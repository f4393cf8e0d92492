"""The copies of a stack's secrets that its containers bind.

    stacks/NAME/secrets/SERVICE/NUMBER

They are below the state folder, which is a tmpfs of the uptime and, from the stack's folder on, its
owner's alone (0700): so a copy may have the mode that it has inside. They go with the stack.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NoReturn

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.stack import Secret, Stack

_SIZE_MAX = 1 << 20


def write(stack: Stack, environ: Mapping[str, str] = os.environ) -> None:
    """Make the copies, or bring them up to date: in place, so that who runs already sees it.

    Raises NsrunError (NS318) where one cannot be made.
    """
    for secret in stack.secrets:
        content = _content(stack, secret, environ)
        try:
            _copy(secret, content)
        except OSError as error:
            # Never the content: an errno says nothing of it.
            _refuse(stack, secret, f"the secret {secret.name} cannot be kept: {error.strerror}")


def _content(stack: Stack, secret: Secret, environ: Mapping[str, str]) -> bytes:
    if secret.file is not None:
        return _read(stack, secret, secret.file)
    value = environ.get(secret.environment or "")
    if value is None:
        _refuse(stack, secret, f"the variable {secret.environment} is not set")
    return os.fsencode(value)


def _read(stack: Stack, secret: Secret, path: str) -> bytes:
    try:
        # Nobody is waited for who would write into a FIFO.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(_SIZE_MAX + 1)
    except OSError as error:
        _refuse(stack, secret, f"cannot read {path}: {error.strerror}")
    if len(content) > _SIZE_MAX:
        _refuse(stack, secret, f"{path} is larger than {_SIZE_MAX} bytes")
    return content


def _refuse(stack: Stack, secret: Secret, summary: str) -> NoReturn:
    raise NsrunError(
        Diagnostic(
            code="NS318", summary=summary, span=stack.spans.get(secret.path), path=secret.path
        )
    )


def _copy(secret: Secret, content: bytes) -> None:
    folder = os.path.dirname(secret.copy)
    for place in (os.path.dirname(folder), folder):
        os.makedirs(place, mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(secret.copy, flags, 0o600)
    with os.fdopen(fd, "r+b") as file:
        if file.read() != content:
            file.seek(0)
            file.truncate()
            file.write(content)
            file.flush()
        uid = os.geteuid() if secret.uid is None else secret.uid
        gid = os.getegid() if secret.gid is None else secret.gid
        there = os.fstat(fd)
        if (there.st_uid, there.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
        # chown(2) clears the set-id bits.
        os.fchmod(fd, secret.mode)
