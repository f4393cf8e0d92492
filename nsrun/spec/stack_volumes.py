"""The volumes of a stack, and the mounts that a container has of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

from nsrun.spec.model import Spec
from nsrun.spec.names import CONTAINER_NAME
from nsrun.spec.path import item_path, key_path
from nsrun.spec.stack import Volume
from nsrun.spec.stack_reading import Reading, Service, close_match
from nsrun.spec.tree import Tree, overlaid
from nsrun.spec.words import quote


def volumes_of(reading: Reading, stack: str, given: dict[str, Any]) -> dict[str, Volume]:
    found = {}
    for name, value in given.items():
        if name.startswith("x-"):
            continue
        path = (value or {}).get("path")
        place = f"{key_path('volumes', name)}.path"
        folder = (
            os.path.join(reading.volumes_folder, stack, name)
            if path is None
            else os.path.normpath(os.path.join(reading.folder(place), os.path.expanduser(path)))
        )
        found[name] = Volume(name=name, folder=folder, named=path is None)
    return found


def with_volumes(reading: Reading, service: Service, volumes: dict[str, Volume]) -> Tree:
    """The container's tree with its `volumes` as mounts."""
    given = service.tree.get("volumes")
    if given is None or given.items is None:
        return service.tree
    mounts: list[Tree] = []
    for index, item in enumerate(given.items):
        text = str(item.value)
        source, colon, rest = text.partition(":")
        if not source or not rest:
            reading.problem(
                "NS203",
                item_path(f"{service.path}.volumes", index),
                f"{quote(text)} is not `volume:target[:options]`",
                "as in `data:/var/lib/data`, or `./folder:/srv`",
                span=item.span,
            )
            continue
        if not source.startswith(("/", ".", "~")):
            if source not in volumes:
                reading.problem(
                    "NS318",
                    item_path(f"{service.path}.volumes", index),
                    f"there is no volume {quote(source)} in this stack",
                    close_match(source, set(volumes)) or _instead(source),
                    span=item.span,
                )
                continue
            source = volumes[source].folder
        mounts.append(Tree(span=item.span, value=f"{source}{colon}{rest}"))
    known = service.tree.get("mounts")
    items = [*((known.items if known is not None else None) or []), *mounts]
    added = Tree(span=given.span, key_span=given.key_span, items=items)
    return overlaid(service.tree, Tree(span=service.tree.span, entries={"mounts": added}))


def of_volumes(spec: Spec, volumes: Iterable[Volume]) -> Spec:
    """``spec`` whose mounts tell which of them are named volumes."""
    folders = {volume.folder for volume in volumes if volume.named}
    mounts = (
        dataclasses.replace(mount, volume=True) if mount.source in folders else mount
        for mount in spec.mounts
    )
    return dataclasses.replace(spec, mounts=tuple(mounts))


def _instead(source: str) -> str:
    if CONTAINER_NAME.fullmatch(source) is None:
        return f"a folder beside the file is `./{source}`" if "/" in source else ""
    return f"add `{source}: {{}}` to `volumes`, or write `./{source}` for a folder beside the file"
