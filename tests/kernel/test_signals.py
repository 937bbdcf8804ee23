"""What an answer shows of itself is told from the answer alone, in bounded time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aios_eccos.kernel import answers
from aios_eccos.kernel.answers import fits, signals_of
from aios_eccos.providers.failures import Broken
from aios_eccos.records import Signals

SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "n": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "more": {"type": ["null", "object"], "required": ["x"]},
    },
}


def query(**fields: Any) -> Any:
    return SimpleNamespace(**{"message_return_type": "text", "response_format": None, **fields})


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"name": "x"}, True),
        ({"name": "x", "n": 3, "tags": ["a"], "more": None, "else": 1}, True),
        ({"name": 3}, False),
        ({}, False),
        ([], False),
        ({"name": "x", "n": 1.5}, False),
        ({"name": "x", "n": True}, False),
        ({"name": "x", "tags": ["a", "c"]}, False),
        ({"name": "x", "more": {}}, False),
        ({"name": "x", "more": {"x": 0}}, True),
    ],
)
def test_a_value_fits_its_schema(value: object, wanted: bool) -> None:
    assert fits(value, SCHEMA) is wanted


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        {"type": 3},
        {"type": ["odd"]},
        {"required": [[]]},
        {"pattern": "(a+)+$"},
        {"$ref": "#"},
    ],
)
def test_what_a_schema_says_beyond_the_shape_is_let_pass(schema: object) -> None:
    assert fits({"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}, schema)


def test_json_is_looked_at_only_where_it_was_asked_for() -> None:
    assert signals_of(query(), {}, "{}", None, None) == Signals(empty=False)
    asked = query(message_return_type="json")
    assert signals_of(asked, {}, "{}", None, False).valid_json
    for text in ("[]", "no", "{", "[" * 100_000):
        assert signals_of(asked, {}, text, None, False).valid_json is False
    assert signals_of(asked, {}, None, [{"name": "f", "parameters": {}}], None).valid_json is None


def test_odd_formats_are_read_as_json_mode() -> None:
    for odd in ("json", {"json_schema": 3}, {"json_schema": {"schema": "x"}}):
        assert signals_of(query(response_format=odd), {}, "{}", None, None).valid_json


def test_tool_calls_are_well_formed_if_all_are() -> None:
    good, bad = {"name": "f", "parameters": {"name": "x"}}, {"name": "f", "parameters": {}}
    offered: dict[str, object] = {"f": SCHEMA, "g": None}

    def told(*calls: dict[str, Any]) -> bool | None:
        return signals_of(query(), offered, None, calls, None).tool_calls

    assert told(good, {"name": "g", "parameters": {"any": 1}})
    assert told(good, bad) is False
    assert told({"name": "h", "parameters": {}}) is False
    assert told({"name": "g", "parameters": [1]}) is False
    assert told() is None


def test_what_is_broken_is_told_too() -> None:
    def read(names: dict[str, str] | None = None, finish: str = "length", **message: Any) -> Any:
        choice = {"message": {"content": None, **message}, "finish_reason": finish}
        with pytest.raises(Broken) as broken:
            answers.read({"choices": [choice]}, names)
        return broken.value.signals

    assert read() == Signals(truncated=True, empty=True)
    cut = {"function": {"name": "f", "arguments": '{"a'}}
    told = read({"f": "f"}, tool_calls=[cut])
    assert told == Signals(tool_calls=False, truncated=True, empty=False)
