"""Whether a document is what a JSON Schema says, and nothing more: yes, or not surely.

Nearly every document is valid, and to import jsonschema costs a quarter of a cold start. So this
says yes for those, of the keywords that ``schemas/*.json`` use; jsonschema is asked for the rest
and finds the words. A keyword that is unknown here is a "not surely": late, never wrong.
Source: JSON Schema, draft 2020-12 (Core and Validation).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
ANNOTATIONS = frozenset(
    {"$defs", "$id", "$schema", "default", "description", "examples", "title", "x-nsrun-code"}
)


def number(value: object) -> bool:
    """No setting is infinite, and none is true or false."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def ecma(pattern: str) -> str:
    r"""The pattern as Python reads it: its ``$`` also matches before a line end at the end of the
    text, that of ECMA 262 does not."""
    return pattern.replace("$", r"\Z")


def fits(value: object, schema: Schema, documents: Mapping[str, Schema]) -> bool:
    """Whether ``value`` surely meets ``schema``, whose own document is that at ``""``; references
    to others are looked up by the name before their ``#``."""
    return _Held(documents, "").fits(value, schema)


@dataclass(frozen=True, slots=True)
class _Held:
    documents: Mapping[str, Schema]
    name: str  # of the document that `#` means

    def fits(self, value: Any, schema: Schema | bool) -> bool:
        if isinstance(schema, bool):
            return schema
        for keyword, operand in schema.items():
            if keyword in ANNOTATIONS:
                continue
            check = _KEYWORDS.get(keyword)
            if check is None or not check(self, value, operand, schema):
                return False
        return True

    def reference(self, value: Any, reference: str, __: Schema) -> bool:
        name, _, pointer = reference.partition("#")
        found: Any = self.documents.get(name or self.name)
        for part in pointer.split("/")[1:]:
            found = found.get(part) if isinstance(found, dict) else None
        if found is None:
            return False
        return (_Held(self.documents, name) if name else self).fits(value, found)

    def any_of(self, value: Any, schemas: list[Schema], _: Schema) -> bool:
        return any(self.fits(value, schema) for schema in schemas)

    def items(self, value: Any, schema: Schema, _: Schema) -> bool:
        return not isinstance(value, list) or all(self.fits(item, schema) for item in value)

    def properties(self, value: Any, properties: Mapping[str, Schema], _: Schema) -> bool:
        if not isinstance(value, dict):
            return True
        return all(self.fits(value[k], s) for k, s in properties.items() if k in value)

    def pattern_properties(self, value: Any, patterns: Mapping[str, Schema], _: Schema) -> bool:
        if not isinstance(value, dict):
            return True
        return all(
            isinstance(key, str) and (not re.search(pattern, key) or self.fits(item, schema))
            for key, item in value.items()
            for pattern, schema in patterns.items()
        )

    def additional(self, value: Any, schema: Schema | bool, beside: Schema) -> bool:
        if not isinstance(value, dict):
            return True
        known = beside.get("properties", {})
        patterns = beside.get("patternProperties", {})
        return all(
            isinstance(key, str)
            and (any(re.search(p, key) for p in patterns) or self.fits(item, schema))
            for key, item in value.items()
            if key not in known
        )

    def names(self, value: Any, schema: Schema, _: Schema) -> bool:
        return not isinstance(value, dict) or all(self.fits(key, schema) for key in value)

    def type(self, value: Any, types: str | list[str], _: Schema) -> bool:
        names = [types] if isinstance(types, str) else types
        return any(name in _TYPES and _TYPES[name](value) for name in names)

    def enum(self, value: Any, values: list[object], _: Schema) -> bool:
        # Scalars only, of one type: `True == 1` in Python, and not in JSON.
        return any(type(value) is type(v) and value == v for v in values if _scalar(v))

    def const(self, value: Any, wanted: object, schema: Schema) -> bool:
        return self.enum(value, [wanted], schema)

    def pattern(self, value: Any, pattern: str, _: Schema) -> bool:
        return not isinstance(value, str) or re.search(ecma(pattern), value) is not None


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _bound(of: Callable[[Any], bool], met: Callable[[Any, Any], bool]) -> _Check:
    return lambda _, value, limit, __: not of(value) or met(value, limit)


_Check = Callable[[_Held, Any, Any, Schema], bool]
_TYPES: Mapping[str, Callable[[object], bool]] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: type(v) is int,
    "number": number,
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
_IS = _TYPES.__getitem__
_KEYWORDS: Mapping[str, _Check] = {
    "$ref": _Held.reference,
    "additionalProperties": _Held.additional,
    "anyOf": _Held.any_of,
    "const": _Held.const,
    "enum": _Held.enum,
    "exclusiveMinimum": _bound(_IS("number"), lambda v, limit: v > limit),
    "items": _Held.items,
    "maxItems": _bound(_IS("array"), lambda v, limit: len(v) <= limit),
    "maxLength": _bound(_IS("string"), lambda v, limit: len(v) <= limit),
    "maximum": _bound(_IS("number"), lambda v, limit: v <= limit),
    "minItems": _bound(_IS("array"), lambda v, limit: len(v) >= limit),
    "minLength": _bound(_IS("string"), lambda v, limit: len(v) >= limit),
    "minProperties": _bound(_IS("object"), lambda v, limit: len(v) >= limit),
    "minimum": _bound(_IS("number"), lambda v, limit: v >= limit),
    "pattern": _Held.pattern,
    "patternProperties": _Held.pattern_properties,
    "properties": _Held.properties,
    "propertyNames": _Held.names,
    "required": _bound(_IS("object"), lambda v, keys: all(key in v for key in keys)),
    "type": _Held.type,
}
