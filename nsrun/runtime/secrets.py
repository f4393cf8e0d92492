"""The copies of a stack's secrets that its containers bind.

    stacks/NAME/secrets/SERVICE/NUMBER

They are below the state folder, which is a tmpfs of the uptime and, from the stack's folder on, its
owner's alone (0700): so a copy may have the mode that it has inside. They go with the stack.

A container with a user namespace has other ids than the host: its plan gives the copy to them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from typing import BinaryIO, NoReturn

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host.syscalls import not_dumpable, syscall
from nsrun.kernel.abi import CloneFlag
from nsrun.runtime import stack_store
from nsrun.spec.stack import Secret, Stack

_SIZE_MAX = 1 << 20


def write(stack: Stack, environ: Mapping[str, str] = os.environ) -> None:
    """Make the copies, or bring them up to date: in place, so that who runs already sees it.

    Raises NsrunError (NS318) where one cannot be made.
    """
    for secret in stack.secrets:
        _keep(stack, secret, environ)


def renew(stack: Stack, running: Collection[str], environ: Mapping[str, str] = os.environ) -> None:
    """New copies of those that a container's start gives away, where none of ``running`` has them:
    a plan gives away what is the caller's, not what an earlier one has given to others."""
    for secret in stack.secrets:
        users = {member.spec.name for member in stack.of(secret.service)}
        if secret.given_away and users.isdisjoint(running):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(secret.copy)
            _keep(stack, secret, environ)


def _keep(stack: Stack, secret: Secret, environ: Mapping[str, str]) -> None:
    content = _content(stack, secret, environ)
    try:
        for place in (os.path.dirname(os.path.dirname(secret.copy)), os.path.dirname(secret.copy)):
            os.makedirs(place, mode=0o700, exist_ok=True)
        if not _is_anothers(secret.copy):
            _copy(secret, content)
        elif not _copy_inside(stack, secret, content):
            # Nobody has it any more.
            os.unlink(secret.copy)
            _copy(secret, content)
    except OSError as error:
        # Never the content: an errno says nothing of it.
        _refuse(stack, secret, f"the secret {secret.name} cannot be kept: {error.strerror}")


def _is_anothers(path: str) -> bool:
    """Whether it has been given to an id that the caller has no rights over."""
    if os.geteuid() == 0:
        return False
    try:
        return os.lstat(path).st_uid != os.geteuid()
    except FileNotFoundError:
        return False


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
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        # An ordinary user's own file of mode 0444 is not open to its owner's writing either.
        os.chmod(secret.copy, secret.mode | 0o600)
    with open(os.open(secret.copy, flags, 0o600), "r+b") as file:
        _fill(file, content)
        if not secret.given_away:
            uid = os.geteuid() if secret.uid is None else secret.uid
            gid = os.getegid() if secret.gid is None else secret.gid
            there = os.fstat(file.fileno())
            if (there.st_uid, there.st_gid) != (uid, gid):
                os.fchown(file.fileno(), uid, gid)
        # chown(2) clears the set-id bits.
        os.fchmod(file.fileno(), secret.mode)


def _fill(file: BinaryIO, content: bytes) -> None:
    if file.read(len(content) + 1) != content:
        file.seek(0)
        file.truncate()
        file.write(content)
        file.flush()


def _copy_inside(stack: Stack, secret: Secret, content: bytes) -> bool:
    """The same from within the user namespace of a container that has it, whose owner has the
    rights there that the host does not give; whether there is one."""
    containers = stack_store.containers(stack.name)
    return any(
        _copied_by_child(container.pid, secret, content)
        for container in containers
        if container.record.service == secret.service and container.running
    )


def _copied_by_child(pid: int, secret: Secret, content: bytes) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # Nobody of that namespace is to look into this process (CVE-2016-9962).
            not_dumpable()
            space = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            syscall("setns", space, CloneFlag.CLONE_NEWUSER)
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(secret.copy, flags), "r+b") as file:
                _fill(file, content)
                os.fchmod(file.fileno(), secret.mode)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0
