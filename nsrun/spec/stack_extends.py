"""The containers of a stack's file, each laid over what it ``extends``."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from nsrun.diag import NsrunError
from nsrun.spec.compose import MAX_NODES
from nsrun.spec.document import Document
from nsrun.spec.path import key_path
from nsrun.spec.source import read_source
from nsrun.spec.stack_reading import Reading, Service, plain
from nsrun.spec.tree import Tree, overlaid, tree_of
from nsrun.spec.words import quote

_DEPTH_MAX = 16
_VALUES_MAX = 2 * MAX_NODES
_TOO_MANY = f"with what they extend the containers have more than {_VALUES_MAX} values"


def services(reading: Reading, data: dict[str, Any]) -> list[Service]:
    found = []
    size = 0
    for name in data.get("containers", {}):
        if name.startswith("x-"):
            continue
        path = key_path("containers", name)
        service = Service(name=name, path=path, tree=tree_of(reading.document, path), folders={})
        _extend(reading, service)
        size += _size(service.tree)
        if size > _VALUES_MAX:
            reading.problem("NS104", path, _TOO_MANY, key=True)
            break
        service.data = plain(service.tree)
        found.append(service)
    return found


def _size(tree: Tree) -> int:
    inner = [*(tree.entries or {}).values(), *(tree.items or ())]
    return 1 + sum(map(_size, inner))


def _extend(reading: Reading, service: Service) -> None:
    """Lay the container over what it extends, and that over what it extends itself."""
    base = reading.folder_at(service.tree.span)
    seen: list[str] = []
    service.tree = _over_its_base(reading, service, service.tree, base, seen)


def _over_its_base(
    reading: Reading, service: Service, tree: Tree, folder: str, seen: list[str]
) -> Tree:
    extends = tree.get("extends")
    if extends is None:
        return tree
    words = extends.items if extends.items is not None else [extends]
    result: Tree | None = None
    for word in words:
        base = _base(reading, service, word, folder, seen)
        service.broken |= base is None
        if base is not None:
            result = base if result is None else overlaid(result, base)
    return tree if result is None else overlaid(result, tree)


def _base(
    reading: Reading, service: Service, word: Tree, folder: str, seen: list[str]
) -> Tree | None:
    file = os.path.normpath(os.path.join(folder, os.path.expanduser(str(word.value))))
    if file in seen or len(seen) >= _DEPTH_MAX:
        reading.problem(
            "NS318",
            service.path,
            f"{quote(str(word.value))} extends itself",
            "remove one of the `extends`",
            span=word.span,
        )
        return None
    if reading.extended > _VALUES_MAX:
        return None
    try:
        document = _read_base(reading, service, file)
    except NsrunError as error:
        reading.report.extend(
            dataclasses.replace(d, span=d.span or word.span) for d in error.diagnostics
        )
        return None
    reading.extended += len(document.spans)
    if reading.extended > _VALUES_MAX:
        reading.problem("NS104", service.path, _TOO_MANY, span=word.span)
        return None
    if not isinstance(document.data, dict) or "containers" in document.data:
        reading.problem(
            "NS318",
            service.path,
            f"{quote(str(word.value))} holds no single container",
            "extend a file with one container",
            span=word.span,
        )
        return None
    service.folders.update({**document.folders, document.file: os.path.dirname(file)})
    return _over_its_base(reading, service, tree_of(document), os.path.dirname(file), [*seen, file])


def _read_base(reading: Reading, service: Service, file: str) -> Document:
    """Raises NsrunError, also the second time: a template may have taken its second to fail."""
    inputs = reading.included.get(service.name, reading.inputs)
    # `reading` holds the inputs, so that no others come to have their id.
    key = file, id(inputs)
    if key not in reading.bases:
        try:
            reading.bases[key] = read_source(file, inputs, main=False)
        except NsrunError as error:
            reading.bases[key] = error
    known = reading.bases[key]
    if isinstance(known, NsrunError):
        raise known
    return known
