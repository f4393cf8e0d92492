"""The parts of a spec about the file system: ``rootfs``, ``mounts``, ``files`` and path lists."""

from __future__ import annotations

from typing import Literal

from nsrun.spec.build_namespaces import idmap as read_idmap
from nsrun.spec.model import Device, FileEntry, IdMap, Mount, Overlay, PathList, Rootfs
from nsrun.spec.mount_words import PROPAGATION
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.units import parse_mode
from nsrun.spec.words import quote


def rootfs(reader: Reader, value: Value, path: str) -> Rootfs:
    if isinstance(value, str):
        return Rootfs(path=reader.host_path(value, path))
    overlay: Overlay | None
    match value.get("overlay"):
        case "ephemeral":
            overlay = Overlay()
        case dict() as folders:
            overlay = Overlay(
                upper=reader.host_path(folders["upper"], f"{path}.overlay.upper"),
                work=reader.host_path(folders["work"], f"{path}.overlay.work"),
            )
        case _:
            overlay = None
    return Rootfs(
        path=reader.host_path(value["path"], f"{path}.path"),
        readonly=value.get("readonly", False),
        propagation=value.get("propagation", "rprivate"),
        overlay=overlay,
    )


def mounts(reader: Reader, value: Value, path: str) -> tuple[Mount, ...]:
    def one(_: int, entry: Value, place: str) -> Mount:
        read = _short if isinstance(entry, str) else _mount
        return read(reader, entry, place)

    return tuple(mount for _, mount in reader.each(value, path, one))


def _short(reader: Reader, value: str, path: str) -> Mount:
    """``source:target[:option,option]``"""
    source, *rest = value.split(":")
    if len(rest) not in (1, 2) or not source or not all(rest):
        reader.problem(
            "NS203",
            path,
            f"{quote(value)} is not `source:target[:options]`",
            help=(
                "a path with a colon in it needs the long form: "
                "{type: bind, source: ..., target: ...}",
            ),
        )
        return Mount(type="bind", target="/", path=path)
    if not source.startswith(("/", ".", "~")):
        reader.problem(
            "NS203",
            path,
            f"the source {quote(source)} is no path",
            label="it has to begin with `/`, `.` or `~`",
            help=(f"a folder beside the spec is {quote('./' + source)}",),
        )
    entry = {
        "type": "bind",
        "source": source,
        "target": rest[0],
        "options": rest[1].split(",") if len(rest) == 2 else [],
    }
    return _mount(reader, entry, path, short=True)


def _mount(reader: Reader, value: Value, path: str, short: bool = False) -> Mount:
    def place(key: str) -> str:
        return path if short else f"{path}.{key}"

    words = tuple(reader.text(word, place("options")) for word in value.get("options", ()))
    # OCI's manner: `bind` and `rbind` make any entry a bind, and `none` is no type at all.
    is_bind = "bind" in words or "rbind" in words
    kind = "" if value.get("type") == "none" else reader.text(value.get("type", ""), place("type"))
    if is_bind and kind not in ("", "bind"):
        reader.problem(
            "NS313",
            place("options"),
            f"a {quote(kind)} mount cannot be a bind",
            help=("leave `bind` out, or write `type: bind`",),
        )
    kind = kind or ("bind" if is_bind else "")
    return Mount(
        type=kind,
        target=reader.target(value["target"], place("target")),
        path=path,
        source=_source(reader, kind, value, place("source")),
        options=tuple(word for word in words if word not in _TAKEN and word not in PROPAGATION),
        propagation=_propagation(value, words),
        recursive=_recursive(reader, value, words, place("options")),
        create=value.get("create", "auto") == "auto",
        optional=value.get("optional", False),
        remount=value.get("remount", False) or "remount" in words,
        idmap=_idmap(reader, value, words, place("idmap")),
        lower=_lower(reader, value, path),
        upper=reader.host_path(value["upper"], place("upper")) if "upper" in value else None,
        work=reader.host_path(value["work"], place("work")) if "work" in value else None,
    )


# Options that become fields of the model.
_TAKEN = frozenset(("bind", "rbind", "remount", "defaults", "idmap", "ridmap"))


def _source(reader: Reader, kind: str, value: Value, path: str) -> str:
    if "source" not in value:
        return ""
    source = reader.text(value["source"], path)
    # A file system's source is a device's path, or a word that only mountinfo shows ("tmpfs").
    if kind in ("bind", "") or source.startswith(("/", "./", "../", "~")):
        return reader.host_path(source, path)
    return source


def _propagation(value: Value, words: tuple[str, ...]) -> tuple[str, ...]:
    written = value.get("propagation", [])
    first = (written,) if isinstance(written, str) else tuple(written)
    return first + tuple(word for word in words if word in PROPAGATION)


def _recursive(reader: Reader, value: Value, words: tuple[str, ...], path: str) -> bool:
    plain, tree = "bind" in words, "rbind" in words
    written = value.get("recursive")
    if (plain and tree) or (plain and written is True) or (tree and written is False):
        reader.problem(
            "NS313",
            path,
            "the bind is said to be recursive and not to be",
            help=("`rbind` is recursive, `bind` among the options is not",),
        )
    return bool(written) if written is not None else not plain or tree


def _idmap(
    reader: Reader, value: Value, words: tuple[str, ...], path: str
) -> IdMap | Literal[True] | None:
    written = value.get("idmap", "idmap" in words or "ridmap" in words)
    if isinstance(written, bool):
        return True if written else None
    return read_idmap(reader, written, path)


def _lower(reader: Reader, value: Value, path: str) -> tuple[str, ...]:
    written = value.get("lower", [])
    place = f"{path}.lower"
    if isinstance(written, str):
        return (reader.host_path(written, place),)
    return tuple(reader.host_path(v, item_path(place, i)) for i, v in enumerate(written))


def files(reader: Reader, value: Value, path: str) -> tuple[FileEntry, ...]:
    def one(target: str, entry: Value, place: str) -> FileEntry:
        return _file(reader, target, entry, place)

    yours = {target: entry for target, entry in value.items() if not target.startswith("x-")}
    return tuple(file for _, file in reader.each(yours, path, one))


def _file(reader: Reader, target: str, value: Value, path: str) -> FileEntry:
    kinds = [key for key in ("content", "symlink", "folder") if key in value]
    if not kinds:
        reader.problem(
            "NS204",
            path,
            f"the file {quote(target)} has no content",
            help=("give it one of `content`, `symlink` and `folder`",),
        )
    elif len(kinds) > 1:
        reader.problem(
            "NS318",
            path,
            f"`{kinds[0]}` and `{kinds[1]}` for the same file",
            help=("keep one of them",),
        )
    elif "symlink" in value and "mode" in value:
        # symlink(7): a link's own permissions are never used.
        reader.problem("NS318", f"{path}.mode", "a symbolic link has no mode")
    mode = None
    if "mode" in value:
        mode = reader.attempt(
            lambda: parse_mode(value["mode"]),
            0,
            f"{path}.mode",
            f"{quote(value['mode'])} is no mode: the most is `07777`",
        )
    cleaned = reader.target(target, path, key=True)
    if cleaned == "/":
        reader.problem("NS318", path, "the root folder cannot be made", key=True)
    symlink = value.get("symlink")
    if symlink is not None:
        place = f"{path}.symlink"
        symlink = reader.bounded(reader.text(symlink, place), place)
    return FileEntry(
        path=path,
        target=cleaned,
        content=value["content"].encode() if "content" in value else None,
        symlink=symlink,
        folder=value.get("folder", False),
        mode=mode,
    )


def path_list(reader: Reader, value: Value, path: str) -> PathList:
    if isinstance(value, str):
        return "default" if value == "default" else "none"
    return tuple(reader.target(v, item_path(path, i)) for i, v in enumerate(value))


def devices(reader: Reader, value: Value, path: str) -> tuple[Device, ...]:
    return tuple(
        _device(reader, entry, item_path(path, index)) for index, entry in enumerate(value)
    )


def _device(reader: Reader, value: Value, path: str) -> Device:
    """A path, or the same with more; its target is where it is on the host."""
    if isinstance(value, str):
        source = reader.host_path(value, path)
        return Device(path=path, source=source, target=source)
    source = reader.host_path(value["path"], key_path(path, "path"))
    target = value.get("target")
    return Device(
        path=path,
        source=source,
        target=source if target is None else reader.target(target, key_path(path, "target")),
        permissions="".join(w for w in "rwm" if w in value.get("permissions", "rwm")),
    )


def device_mounts(found: tuple[Device, ...]) -> tuple[Mount, ...]:
    """The binds by which they come in: nodes that are made inside work in no user namespace."""
    return tuple(
        Mount(
            type="bind",
            source=device.source,
            target=device.target,
            path=device.path,
            options=("dev", "nosuid", "noexec"),
            recursive=False,
        )
        for device in found
    )
