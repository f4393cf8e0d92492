"""All that is known of a container: what it was made of, and what is there now."""

from __future__ import annotations

import datetime
import os
import subprocess
from typing import Any

from nsrun.host import procfs
from nsrun.kernel.abi import signal_name
from nsrun.plan.launch import PROC_NAMES
from nsrun.runtime.store import Container, Status, plan_needed

_NEVER = "0001-01-01T00:00:00Z"


def look(container: Container, *, plan: bool = False) -> dict[str, Any]:
    """As `docker inspect` shapes it, where it has a word for it."""
    record = container.record
    found: dict[str, Any] = {
        "Id": record.id,
        "Name": record.name,
        "Created": _time(record.created),
        "Path": record.command[0] if record.command else "",
        "Args": list(record.command[1:]),
        "State": _state(container),
        "Spec": {"File": record.spec, "Sha256": record.sha256, "Words": list(record.words)},
        "Config": {
            "Tty": record.tty,
            "OpenStdin": record.stdin,
            "StopSignal": record.stop_signal,
            "StopTimeout": record.stop_timeout / 10**9,
            "Labels": dict(record.labels),
        },
        "LogPath": os.path.join(container.folder, "log"),
        "Ports": list(record.ports),
        "Namespaces": _namespaces(container),
        "Mounts": _mounts(container),
        "Interfaces": _interfaces(container),
    }
    if plan:
        found["Plan"] = _plan(container)
    return found


def _time(moment: int) -> str:
    if not moment:
        return _NEVER
    at = datetime.datetime.fromtimestamp(moment // 10**9, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{moment % 10**9:09}Z"


def _state(container: Container) -> dict[str, Any]:
    status = container.status
    return {
        "Status": status.value,
        "Running": container.running,
        "Paused": status is Status.PAUSED,
        "Restarting": status is Status.RESTARTING,
        "OOMKilled": container.out_of_memory,
        "Dead": status is Status.DEAD,
        "Pid": container.pid,
        "ExitCode": container.exit_status or 0,
        "Signal": signal_name(container.signal) if container.signal else "",
        "Error": "its monitor was killed" if status is Status.DEAD else "",
        "StartedAt": _time(container.started),
        "FinishedAt": _time(container.finished),
    }


def _namespaces(container: Container) -> dict[str, Any]:
    """Each kind's inode, and whether the caller shares it."""
    found = {}
    for kind, name in PROC_NAMES.items():
        try:
            theirs = os.stat(f"/proc/{container.pid}/ns/{name}").st_ino
            ours = os.stat(f"/proc/self/ns/{name}").st_ino
        except OSError:
            continue
        found[kind.value] = {"Inode": theirs, "Shared": theirs == ours}
    return found if container.pid else {}


def _mounts(container: Container) -> list[dict[str, str]]:
    if not container.pid:
        return []
    return [
        {"Destination": m.target, "Type": m.fstype, "Source": m.source}
        for m in procfs.mounts(str(container.pid))
    ]


def _interfaces(container: Container) -> list[Any]:
    """As `ip -json address` prints them, asked inside."""
    import json

    if not container.pid:
        return []
    try:
        done = subprocess.run(
            ("nsenter", f"--net=/proc/{container.pid}/ns/net", "ip", "-json", "address"),
            capture_output=True,
            check=False,
        )
        data = json.loads(done.stdout or b"[]")
    except (OSError, ValueError):
        return []
    return data if isinstance(data, list) else []


def _plan(container: Container) -> Any:
    from nsrun.plan.codec import to_json

    plan = plan_needed(container, "it is asked for; without --plan the rest is told")
    return to_json(plan)
