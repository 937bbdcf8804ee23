"""What must not change without being said: JSON of commands, decisions, the path of a price.

After a change that is meant, make the files anew (see `golden_world`) and say what changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from golden_compare import differences, load, tree
from golden_world import COMMANDS, ENGINES, FILES, Shell, check, shell

#: Differences shown of one recipe.
SHOWN = 25


@pytest.fixture(scope="module")
def commands() -> Iterator[Shell]:
    """One shell for all commands, so that texts are embedded once."""
    with shell() as sh:
        yield sh


def unchanged(name: str, value: Any) -> None:
    said = check(name, json.loads(json.dumps(value)))
    assert not said, "\n".join([f"{name}: {len(said)} differences", *said[:SHOWN]])


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_says_is_what_it_said(name: str, commands: Shell) -> None:
    unchanged(name, COMMANDS[name](commands))


@pytest.mark.parametrize("name", ENGINES)
def test_what_an_engine_decides_is_what_it_decided(name: str) -> None:
    unchanged(name, ENGINES[name]())


# The files themselves: a golden file that pins too little is worth little.


def test_two_thousand_decisions_of_every_kind_are_stored() -> None:
    worlds = load(FILES, "decisions")["worlds"]
    rows = [row for made in worlds.values() for row in made]
    models, statuses = {row[0] for row in rows}, {row[1] for row in rows}
    assert len(rows) == 2000
    assert models == {None, "tiny", "small", "coder", "middle", "large", "fresh"}
    assert {"explored", "optimal", "over_capacity"} <= statuses
    assert {row[5] for row in rows} == {"", "coder/*", "cheap/*", "best/*", "local/*"}
    assert {"inf", "nan"} <= {value for row in rows for value in row[2:5] if isinstance(value, str)}


def test_the_trace_is_of_a_price_that_moves() -> None:
    stored = load(FILES, "control")
    general = [row for row in stored["calls"] if row[5] == "" and row[3] == 0.65]
    assert len(stored["calls"]) == 500
    assert len({row[2] for row in general}) > 100
    assert {row[6] for row in general} == {0.0, 1.0}
    assert len(stored["shifts"]) >= 3


def test_differences_are_found_and_named() -> None:
    one = {"a": [1.0, {"b": "x"}], "c": None, "d": "*"}
    assert differences(one, one, 1e-6, 0.0) == []
    assert differences(one, {**one, "a": [1.0 + 1e-9, {"b": "x"}]}, 1e-6, 0.0) == []
    other = {"a": [1.1, {"b": "y"}, 3], "c": 0, "e": 1}
    assert differences(one, other, 1e-6, 0.0) == [
        ".a: 3 items, were 2",
        ".a[0]: 1.1, was 1.0",
        '.a[1].b: "y", was "x"',
        ".c: 0, was null",
        '.d: is gone, was "*"',
        ".e: is new, 1",
    ]
    assert tree([{"a": 1}, {"a": None, "b": [True]}]) == [{"a": "null|number", "b": ["bool"]}]
