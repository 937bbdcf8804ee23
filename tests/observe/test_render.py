"""Plain text that fits 80 columns, whatever names there are; and every word of `/eccos`."""

from __future__ import annotations

import re

import pytest
from observe_world import World, failing

from aios_eccos.observe import render
from aios_eccos.observe.command import HELP, VERBS, answer
from aios_eccos.observe.text import bar, cut, money, seconds, table


def fits(text: str) -> bool:
    return all(len(line) <= 80 and line.isprintable() for line in text.splitlines())


@pytest.fixture
def busy(world: World) -> World:
    world.calls(5, "0.2")
    world.call("0.97", agent="a very long agent's name \x1b[31m with colors " * 3)
    world.answer = failing("connection reset by peer after a while")
    world.call("0.5")
    for trace in world.reader.decisions(4).decisions:
        if trace.failure is None:
            world.reader.feedback(trace.id, 1.0)
    world.change(quality_floor=0.8)
    world.engine.recorder.look()
    return world


@pytest.mark.parametrize(
    "words",
    [
        "",
        "help",
        "status",
        "models",
        "load",
        "last",
        "last 3",
        "explain last",
        'explain "0.4 is what I ask"',
        "savings",
        "savings large",
        "savings nobody",
        "whatif floor=0.8",
        "whatif floor=95%",
        "whatif floor = 0.999",
        "events",
        "events 2",
    ],
)
def test_every_command_answers_in_80_columns(busy: World, words: str) -> None:
    text = answer(busy.reader, words)
    assert fits(text), text
    assert "no such command" not in text
    assert text.strip()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("stauts", "no such command"),
        ("last many", "from 1 to 50"),
        ("last 0", "from 1 to 50"),
        ("explain", "which one"),
        ("explain 1-1", "`last` shows"),
        ("whatif", "floor=0.8"),
        ("whatif floor=2", "0..1"),
        ("whatif colour=0.8", "floor=0.8"),
        ('explain "unfinished', "success"),
        ("x" * 300, "no such command"),
    ],
)
def test_a_mistake_is_answered_with_what_to_type(busy: World, words: str, hint: str) -> None:
    if words.startswith('explain "unf'):
        words = words.replace("unfinished", "0.5 unfinished")
        words = words.replace('"', "", 1)
    text = answer(busy.reader, words)
    assert hint in text
    assert fits(text)


def test_help_names_every_command() -> None:
    assert fits(HELP)
    for verb in VERBS.keys() - {"help"}:
        assert f"/eccos {verb}" in HELP


def test_status_says_what_costs_are_where_no_price_is_known(busy: World) -> None:
    view = busy.reader.status()
    assert "no price is known" not in render.status(view)
    text = render.status(view.model_copy(update={"money": False}))
    assert "u is an output token x billions of parameters" in text
    assert fits(text)


def test_status_says_what_matters(busy: World) -> None:
    text = answer(busy.reader, "status")
    for part in ("mode route", "floor 0.8", "7 calls, 1 failed", "promised", "realised", "e "):
        assert part in text


def test_a_whole_id_can_be_copied_from_last(busy: World) -> None:
    text = answer(busy.reader, "last 7")
    ids = re.findall(r"^(\d+-\d+)\s", text, re.MULTILINE)
    assert len(ids) == 7
    assert "chosen" in answer(busy.reader, f"explain {ids[-1]}")


def test_an_explanation_shows_the_alternatives(busy: World) -> None:
    text = answer(busy.reader, f"explain {busy.reader.decisions(2).decisions[1].id}")
    for part in ("> large", "small: 8b", "extra", "bound by", "nearest past calls", "worth"):
        assert part in text


def test_degraded_and_lost_are_loud(busy: World) -> None:
    view = busy.reader.status()
    assert view.edge is not None
    edge = view.edge.model_copy(update={"lost_traces": 3, "history": None, "history_note": "gone"})
    text = render.status(view.model_copy(update={"degraded": True, "edge": edge}))
    assert "! Redis is away" in text
    assert "3 traces lost" in text
    assert "gone" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "$0.00"),
        (12.3456, "$12.35"),
        (0.01234, "$0.0123"),
        (1234567.0, "$1,234,567"),
        (6.99e-6, "$6.99e-6"),
        (-0.5, "-$0.500"),
        (0.00999999, "$0.0100"),
        (1e-12, "$1.00e-12"),
    ],
)
def test_money(value: float | None, text: str) -> None:
    assert money(value) == text


def test_without_prices_costs_are_never_dollars() -> None:
    assert money(12.0, False) == "12.00u"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "12.3 ms"),
        (0.5, "0.50 s"),
        (31.0, "31.0 s"),
        (600, "10 min"),
        (7200, "2.0 h"),
        (None, "-"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_a_bar_is_full_only_at_the_limit_and_never_empty_while_something_runs() -> None:
    assert bar(0, 8) == "." * 10
    assert bar(1, 1000) == "#" + "." * 9
    assert bar(8, 8) == bar(9, 8) == "#" * 10
    assert bar(0, 0) == "." * 10


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert cut("a\x1b[31m\nb", 20) == "a [31m b"
    assert cut("abcdefgh", 6) == "abcd.."


def test_a_table_gives_way_where_it_may() -> None:
    text = table([{"name": "x" * 200, "n>": "12345"}], give=(0,))
    assert fits(text)
    assert text.endswith("12345")
