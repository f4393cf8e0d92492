"""schemas/plan.schema.json says what the codec does, and describes every key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from nsrun.plan.codec import ACTION_KEYS, NEEDS_KEYS, PLAN_KEYS, SOURCE_KEYS, dumps, to_json
from nsrun.plan.codec_args import BYTES_KEYS, EXPECT_KEYS, OUT_KEYS
from nsrun.plan.codec_forms import Keys
from nsrun.plan.codec_ops import OPERATIONS
from nsrun.plan.model import Plan
from tests.support import plans

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "schemas" / "plan.schema.json").read_text(encoding="utf-8")
)
DEFINITIONS = SCHEMA["$defs"]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def properties(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that the schema describes, wherever it stands."""
    if isinstance(schema, dict):
        for key, member in schema.get("properties", {}).items():
            yield f"{path}/{key}", member
        for key, member in schema.items():
            if key != "examples":
                yield from properties(member, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, member in enumerate(schema):
            yield from properties(member, f"{path}/{index}")


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("path", "member"), [pytest.param(*p, id=p[0]) for p in properties(SCHEMA)]
)
def test_every_key_has_a_description_and_a_valid_example(path: str, member: dict[str, Any]) -> None:
    assert member["description"].endswith("."), path
    assert member["examples"], path
    validator = VALIDATOR.evolve(schema=member)
    for example in member["examples"]:
        validator.validate(example)


def test_the_plan_with_everything_is_valid() -> None:
    VALIDATOR.validate(json.loads(dumps(plans.everything())))


@settings(max_examples=25, deadline=None)
@given(plans.plans)
def test_every_plan_is_valid(plan: Plan) -> None:
    assert VALIDATOR.is_valid(to_json(plan))


@pytest.mark.parametrize(
    "edit",
    [
        {"format": 2},
        {"name": ""},
        {"extra": 1},
        {"actions": [{"track": "parent"}]},
        {"needs": {"kernel": "5.15", "machine": "x86_64", "root": "yes"}},
        {"spec": {"file": "a", "sha256": "short"}},
    ],
)
def test_what_is_no_plan_is_not_valid(edit: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**to_json(plans.everything()), **edit})


@pytest.mark.parametrize(
    ("schema", "members"),
    [
        *((DEFINITIONS[name], {"op": (), **members}) for name, (_, members) in OPERATIONS.items()),
        (SCHEMA, {"format": (), **PLAN_KEYS}),
        (SCHEMA["properties"]["spec"], SOURCE_KEYS),
        (SCHEMA["properties"]["needs"], NEEDS_KEYS),
        (DEFINITIONS["action"], ACTION_KEYS),
        (DEFINITIONS["bytes"], BYTES_KEYS),
        (DEFINITIONS["out"], OUT_KEYS),
        (DEFINITIONS["out"]["properties"]["expect"]["items"], EXPECT_KEYS),
    ],
)
def test_schema_and_codec_have_the_same_keys(schema: dict[str, Any], members: Keys) -> None:
    assert list(schema["properties"]) == list(members)
