"""Names and prompts that try a terminal, a log, Redis, Lua, YAML or a path are words everywhere."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from redis import Redis
from rich.console import Console

from aios_eccos.cli import main as command_line
from aios_eccos.cli.main import main
from aios_eccos.cli.output import console, draw_table, write_json
from aios_eccos.observe.command import answer
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.render_calls import explain
from aios_eccos.values import Answer, Query
from integration.hostile.inputs import WORDS
from integration.hostile.redis_values import errors_logged, looks, wrong
from integration.hostile.world import edge, engine_on, redis_server

#: As the kernel reads them: what is no text at all is replaced at its edge.
NAMES = [word.encode("utf-8", "replace").decode() for word in WORDS]


def test_agents_and_prompts_of_any_name_are_served_and_shown_as_words(tmp_path: Path) -> None:
    with redis_server() as port, engine_on(port, tmp_path) as engine, errors_logged() as logged:
        futures = [
            engine.dispatcher.submit(
                Query(name, agent=name, input_tokens=10),
                lambda model, left, name=name: Answer(name, 10, 20),
            )
            for name in NAMES
        ]
        assert all(future.result(60).answer.value for future in futures)
        assert engine.recorder.flush(60)
        reader = Reader.of_engine(engine, edge)
        shown = [*looks(reader)]
        for trace in reader.decisions(50).decisions:
            shown.append((trace.id, lambda t=trace: explain(reader.explain(t.id))))  # type: ignore[misc]
        assert [fault for name, look in shown if (fault := wrong(name, look))] == []
        for name in NAMES:
            for words in (name, f"explain {name}", f"savings {name}", f"whatif floor={name}"):
                assert wrong(words, lambda words=words: answer(reader, words)) is None  # type: ignore[misc]
            assert reader.route(name, name).model is not None
        assert logged == []
        with Redis(port=port) as client:
            assert client.keys("a") == [], "nobody's command was carried out"


@pytest.mark.parametrize("name", [*NAMES, "[/bold]", "[red]", "[link=http://x]", ":warning:", "["])
def test_a_name_in_a_table_is_drawn_as_it_stands(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "6000")
    screen = console()
    screen.print(draw_table([{"model": name, "n": 1.0}], title=name))
    screen.print(name)
    shown = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in shown)
    if name.isprintable():
        assert shown.count(name) == 3


def test_an_error_is_printed_without_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["status", "--config", str(tmp_path / "\x1b[2J\x07")])
    assert "\\x1b[2J" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*NAMES, "\x7f", "\u2028", "\U000e0041", "\u2067a"])
@pytest.mark.parametrize(
    "say",
    [
        typer.echo,
        lambda name: sys.stdout.write(name),
        lambda name: typer.echo(f"ok  {name}: {name}"),
    ],
    ids=["echo", "write", "line"],
)
def test_no_command_prints_what_a_terminal_obeys(
    say: Callable[[str], object],
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_line, "app", lambda arguments: say(name))
    main([])
    shown = capsys.readouterr().out
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    if name.isprintable():
        assert name in shown


@pytest.mark.parametrize("name", [*NAMES, "\x7f", "\u2028", "\U000e0041"])
def test_json_is_printed_without_what_a_terminal_obeys_and_says_the_same(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "app", lambda arguments: write_json({"name": name}, "-"))
    main([])
    shown = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert json.loads(shown) == {"name": name}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", ["small", "\u6a21\u578b\U0001f600", "\xe9\x9b", "\ud800"])
def test_an_encoding_that_cannot_hold_a_name_stops_no_command(
    encoding: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    def say(arguments: object) -> None:
        typer.echo(f"no price of {name}")
        console().print(draw_table([{"model": name}]))
        sys.stdout.write(json.dumps({"name": name}, ensure_ascii=False) + "\n")

    monkeypatch.setattr(command_line, "app", say)
    monkeypatch.setattr(sys, "stdout", written)
    main([])
    shown = written.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert json.loads(shown.splitlines()[-1]) == {"name": name}


def test_colors_of_our_own_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(arguments: object) -> None:
        Console(force_terminal=True, color_system="standard").print("red", style="red")

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(command_line, "app", say)
    main([])
    assert "\x1b[31mred" in capsys.readouterr().out
