"""The JSON Schemas of the spec, and a document held against one of them.

``schemas/*.json`` is the single source of truth for the format; jsonschema is imported only
for a document that is not surely valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nsrun.diag import MAX_SHOWN, Diagnostic, sort_key, with_more
from nsrun.spec.document import Document
from nsrun.spec.path import parent_path
from nsrun.spec.schema_errors import Translator
from nsrun.spec.schema_fits import ecma, fits, number

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

Schema = dict[str, Any]
NAMES = ("container", "stack", "plan", "state")


def schema_text(name: str) -> str:
    """The text of ``schemas/NAME.schema.json``; raises FileNotFoundError for none of that name.

    An installed package holds the folder itself, a checkout beside the package.
    """
    file = f"{name}.schema.json"
    package = Path(__file__).parents[1]
    try:
        return (package / "schemas" / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return (package.parent / "schemas" / file).read_text(encoding="utf-8")


@lru_cache(maxsize=len(NAMES))
def load_schema(name: str) -> Schema:
    """The schema called ``container`` or ``stack``, parsed. Not to be changed by the caller."""
    schema: Schema = json.loads(schema_text(name))
    return schema


def is_stack(document: Document) -> bool:
    """Whether the document describes several containers: it has a top-level ``containers``, or
    includes a file that has."""
    return isinstance(document.data, dict) and (
        "containers" in document.data or "include" in document.data
    )


def validate(document: Document) -> list[Diagnostic]:
    """Every way in which the document is not what its schema says, sorted by place.

    Codes NS201 to NS204, and that of the schema's own ``x-nsrun-code`` where it has one.
    """
    name = "stack" if is_stack(document) else "container"
    schema = load_schema(name)
    others = {"container.schema.json": load_schema("container")}
    if fits(document.data, schema, {"": schema, **others}):
        return []
    translator = Translator(document, load_schema("container"), load_schema("stack"))
    errors = _validator(name).iter_errors(cast(Any, document.data))
    told = chain.from_iterable(map(translator.translate, errors))
    found = list(islice(told, MAX_SHOWN))
    cut = len(found) == MAX_SHOWN and next(told, None) is not None
    kept = sorted(_without_echoes(found), key=sort_key)
    return list(with_more(kept)) if cut else kept


def _without_echoes(found: list[Diagnostic]) -> Iterator[Diagnostic]:
    """A key that is misspelt is unknown, and missing as well: say the first only."""
    misspelt = {(parent_path(d.path), h) for d in found if d.code == "NS201" for h in d.help}
    for diagnostic in found:
        key = diagnostic.summary.removeprefix("the key ").removesuffix(" is missing")
        if diagnostic.code != "NS204" or (diagnostic.path, f"did you mean {key}?") not in misspelt:
            yield diagnostic


@lru_cache(maxsize=2)
def _validator(name: str) -> Validator:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    # JSON Schema takes 1.0 for an integer; a spec means what it writes. No setting is infinite.
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: type(value) is int, "number": lambda _, value: number(value)}
    )
    extend: Any = validators.extend  # has no annotations
    own = {
        "pattern": _pattern,
        "items": _items,
        "properties": _properties,
        "additionalProperties": _additional,
    }
    validator = extend(Draft202012Validator, own, type_checker=types)
    container = DRAFT202012.create_resource(load_schema("container"))
    registry: Registry[Any] = Registry().with_resource("container.schema.json", container)
    made: Validator = validator(load_schema(name), registry=registry)
    return made


def _pattern(_: Validator, pattern: str, instance: object, beside: Schema) -> Iterator[Exception]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, str) or len(instance) > beside.get("maxLength", len(instance)):
        # That it is too long is said already; a group that repeats takes 270 bytes a character.
        return
    if not re.search(ecma(pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


# What surely fits is passed over: jsonschema takes 20 times as long for a value as `fits` does, and
# of a long list with one mistake in it only that entry is of interest.


def _fits(value: object, schema: Any) -> bool:
    # `#` means the document that the schema is of. Names of definitions are unique over both.
    container, stack = load_schema("container"), load_schema("stack")
    return any(
        fits(value, schema, {"": own, "container.schema.json": container})
        for own in (container, stack)
    )


def _items(
    validator: Validator, schema: Any, instance: object, _: Schema
) -> Iterator[ValidationError]:
    if isinstance(instance, list):
        for index, item in enumerate(instance):
            if not _fits(item, schema):
                yield from _descend(validator, item, schema, path=index)


def _properties(
    validator: Validator, properties: Any, instance: object, _: Schema
) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for key, schema in properties.items():
            if key in instance and not _fits(instance[key], schema):
                yield from _descend(validator, instance[key], schema, path=key, schema_path=key)


def _additional(
    validator: Validator, schema: Any, instance: object, beside: Schema
) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, dict):
        return
    known, patterns = beside.get("properties", {}), beside.get("patternProperties", {})
    for key, value in instance.items():
        if key in known or any(re.search(pattern, key) for pattern in patterns):
            continue
        if schema is False:
            # One error for all of them: the translator says each.
            yield ValidationError("keys that are not known")
            return
        if not _fits(value, schema):
            yield from _descend(validator, value, schema, path=key)


def _descend(
    validator: Validator, value: object, schema: Any, **place: Any
) -> Iterator[ValidationError]:
    found: Iterator[ValidationError] = cast(Any, validator).descend(value, schema, **place)
    return found
