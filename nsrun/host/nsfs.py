"""Namespaces as files: /proc/PID/ns/TYPE and what is bound from there (ioctl_nsfs(2))."""

from __future__ import annotations

import fcntl
import os

from nsrun.kernel.abi import Ioctl
from nsrun.kernel.namespaces import FLAGS, PROC_NAMES

# linux/nsfs.h: _IO(0xb7, 0x2)
NS_GET_PARENT = 0xB702

KINDS: dict[int, str] = {int(flag): word for word, flag in FLAGS.items()}


def supported() -> frozenset[str]:
    """The kinds of namespaces this kernel has, by OCI's names."""
    try:
        present = set(os.listdir("/proc/self/ns"))
    except OSError:
        return frozenset()
    return frozenset(kind for kind, name in PROC_NAMES.items() if name in present)


def device() -> int:
    """The device number of nsfs, -1 without /proc.

    The kernel has one nsfs for all namespaces, so that a file with this device is one of it.
    """
    try:
        return os.stat("/proc/self/ns/mnt").st_dev
    except OSError:
        return -1


def kind_of_handle(handle: int) -> str | None:
    """The kind of namespace behind an O_PATH descriptor that lies on nsfs."""
    try:
        # Reopened by descriptor: what the name leads to may have changed since.
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return KINDS.get(fcntl.ioctl(fd, Ioctl.NS_GET_NSTYPE))
    except OSError:
        # A pidfd of kernels up to 6.8 lies elsewhere; other files of nsfs have no type.
        return None
    finally:
        os.close(fd)


def kind_of(path: str) -> str | None:
    """The kind of namespace a file holds, None where it holds none or is closed to the caller."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        on_nsfs = os.fstat(handle).st_dev == device()
        return kind_of_handle(handle) if on_nsfs else None
    finally:
        os.close(handle)


def related(path: str, request: int) -> int | None:
    """The inode of the namespace that NS_GET_USERNS or NS_GET_PARENT leads to.

    None where it lies above the caller's own (EPERM), or the file is no such namespace.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        other = fcntl.ioctl(fd, request)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        return os.fstat(other).st_ino
    finally:
        os.close(other)


def has_ancestor(path: str, ancestor: int) -> bool:
    """Whether a pid or user namespace lies below the one with the inode ``ancestor``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    while True:
        try:
            parent = fcntl.ioctl(fd, NS_GET_PARENT)
        except OSError:
            # EPERM: what follows lies outside of the caller's own.
            return False
        finally:
            os.close(fd)
        fd = parent
        if os.fstat(fd).st_ino == ancestor:
            os.close(fd)
            return True


def inode(path: str) -> int | None:
    """The number that names a namespace, None where the file is not there."""
    try:
        return os.stat(path).st_ino
    except (OSError, ValueError):
        return None
