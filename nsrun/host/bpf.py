"""Programs that are attached to control groups of version 2 (bpf(2))."""

from __future__ import annotations

import ctypes
import os
import struct

from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import BpfAttachType, BpfCommand

# union bpf_attr of linux/bpf.h, query: target_fd, attach_type, query_flags, attach_flags, prog_ids,
# prog_cnt.
_QUERY = struct.Struct("=IIIIQI4x")


def device_programs(folder: str) -> tuple[int, int]:
    """How many programs for devices a group has, and the flags they are attached with.

    Raises OSError: EPERM without CAP_NET_ADMIN or CAP_BPF, EINVAL of a kernel that has none.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        query = _QUERY.pack(fd, BpfAttachType.BPF_CGROUP_DEVICE, 0, 0, 0, 0)
        buffer = ctypes.create_string_buffer(query, len(query))
        # Kernel: with room for none it tells how many there are.
        syscall("bpf", BpfCommand.BPF_PROG_QUERY, buffer, len(query))
    finally:
        os.close(fd)
    _, _, _, flags, _, count = _QUERY.unpack(buffer.raw)
    return count, flags
