"""The parts of a spec about isolation: ``namespaces`` and ``idmap``."""

from __future__ import annotations

from typing import Literal, cast

from nsrun.spec.model import IdMap, IdRange, Namespace, NamespaceType
from nsrun.spec.path import item_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.units import parse_duration
from nsrun.spec.words import quote


def namespaces(reader: Reader, value: Value, path: str) -> tuple[Namespace, ...]:
    return tuple(_namespace(reader, v, item_path(path, i)) for i, v in enumerate(value))


def _namespace(reader: Reader, value: Value, path: str) -> Namespace:
    if isinstance(value, str):
        return Namespace(type=NamespaceType(value))
    return Namespace(
        type=NamespaceType(value["type"]),
        join_path=_host_path(reader, value, path, "path"),
        join_pid=value.get("pid"),
        join_container=value.get("container"),
        pin=_host_path(reader, value, path, "pin"),
        boottime=_offset(reader, value, path, "boottime"),
        monotonic=_offset(reader, value, path, "monotonic"),
    )


def _host_path(reader: Reader, value: Value, path: str, key: str) -> str | None:
    return reader.host_path(value[key], f"{path}.{key}") if key in value else None


def _offset(reader: Reader, value: Value, path: str, key: str) -> int | None:
    if key not in value:
        return None
    place = f"{path}.{key}"
    text = reader.text(value[key], place)
    return reader.attempt(
        lambda: parse_duration(value[key]), 0, place, f"{quote(text)} is no duration that fits"
    )


def idmap(reader: Reader, value: Value, path: str) -> IdMap:
    if isinstance(value, str):
        return IdMap(kind=cast(Literal["auto", "root", "keep"], value))
    return IdMap(
        kind="explicit",
        uid=_ranges(reader, value["uid"], f"{path}.uid"),
        gid=_ranges(reader, value["gid"], f"{path}.gid"),
    )


def _ranges(reader: Reader, value: Value, path: str) -> tuple[IdRange, ...]:
    return tuple(_range(reader, v, item_path(path, i)) for i, v in enumerate(value))


def _range(reader: Reader, value: Value, path: str) -> IdRange:
    if isinstance(value, dict):
        return IdRange(container=value["container"], host=value["host"], size=value["size"])
    parts = value.split(":")
    if max(len(part) for part in parts) > 10:
        reader.problem(
            "NS303", path, f"{quote(value)} leaves the range of ids", label="ids end at 4294967294"
        )
        parts = ["0", "0", "1"]
    container, host, size = (int(part) for part in parts)
    return IdRange(container=container, host=host, size=size)
