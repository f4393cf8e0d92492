"""The JSON Schemas of the spec, and a document held against one of them.

``schemas/*.json`` is the single source of truth for the format; jsonschema is imported only
for a document that is not surely valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nsrun.diag import Diagnostic, sort_key
from nsrun.spec.document import Document
from nsrun.spec.path import parent_path
from nsrun.spec.schema_errors import Translator
from nsrun.spec.schema_fits import ecma, fits, number

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Schema = dict[str, Any]
NAMES = ("container", "stack", "plan", "state")
# More messages than anyone reads; a file made to hurt would have one for each of its values.
MAX_ERRORS = 100


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
    found: list[Diagnostic] = []
    errors = _validator(name).iter_errors(cast(Any, document.data))
    for error in islice(errors, MAX_ERRORS):
        found.extend(translator.translate(error))
    if next(errors, None) is not None:
        found[-1] = replace(found[-1], notes=(*found[-1].notes, "there are more errors than shown"))
    return sorted(_without_echoes(found), key=sort_key)


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
    validator = extend(Draft202012Validator, {"pattern": _pattern}, type_checker=types)
    container = DRAFT202012.create_resource(load_schema("container"))
    registry: Registry[Any] = Registry().with_resource("container.schema.json", container)
    made: Validator = validator(load_schema(name), registry=registry)
    return made


def _pattern(_: Validator, pattern: str, instance: object, __: Schema) -> Iterator[Exception]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not re.search(ecma(pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")
