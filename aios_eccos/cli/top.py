"""`aios-eccos top`: what `status` and `last` show, live, over the whole screen."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from aios_eccos.cli.ask import Asker
from aios_eccos.cli.options import AiosHome, ConfigFile
from aios_eccos.observe import render
from aios_eccos.observe.call_views import DecisionsView
from aios_eccos.observe.text import table
from aios_eccos.observe.views import ModelView, StatusView

#: Decisions asked for; as many are shown as the screen has lines for.
LAST = 60
#: Columns of the table of models beside its bars.
BESIDE_BARS = 74
#: From this width on there is room for the reason of each decision.
WIDE = 130


def top(
    every: Annotated[float, typer.Option(min=0.2, max=60.0, help="Seconds between looks.")] = 1.0,
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a look, without a screen.")
    ] = False,
) -> None:
    """Watch load, calls, spending, success, shadow prices and the last decisions. `q` ends it."""
    with Asker(config, aios_home) as asker:
        if as_json:
            _print_looks(asker, every)
        screen = Screen(*_look(asker))
        with _keys() as typed, Live(screen, console=Console(), screen=True, refresh_per_second=4):
            while _pressed(every, typed) not in ("q", "Q", "\x03", "\x04"):
                screen.status, screen.last = _look(asker)


def _look(asker: Asker) -> tuple[StatusView, DecisionsView]:
    return (
        asker.get("/eccos/status", StatusView, lambda reader: reader.status()),
        asker.get(f"/eccos/decisions?n={LAST}", DecisionsView, lambda d: d.decisions(LAST)),
    )


def _print_looks(asker: Asker, every: float) -> None:
    """A line of JSON a look, until the reader goes or Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        while True:
            sys.stdout.write(_look(asker)[0].model_dump_json(by_alias=True) + "\n")
            sys.stdout.flush()
            time.sleep(every)
    raise typer.Exit


@contextlib.contextmanager
def _keys() -> Iterator[bool]:
    """Has the terminal give keys at once; yields whether there is one that can."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield False
        return

    import termios  # Windows has neither
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float, typed: bool) -> str:
    """Wait so many seconds for a key; returns it, "" for none."""
    try:
        if typed and select.select([sys.stdin], [], [], seconds)[0]:
            return sys.stdin.read(1)
        if not typed:
            time.sleep(seconds)
    except KeyboardInterrupt:
        return "q"
    return ""


class Screen:
    """Draws the latest look in whatever size the terminal has now."""

    def __init__(self, status: StatusView, last: DecisionsView) -> None:
        self.status = status
        self.last = last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.max_height
        lines = [*self._lines(width)][:height]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        yield Text("\n").join(lines)

    def _lines(self, width: int) -> Iterator[Text]:
        for number, line in enumerate("\n".join(render.headline(self.status)).splitlines()):
            warned = line.startswith("!") or "! BROKEN" in line
            yield Text(line, style="bold red" if warned else "bold" if number == 0 else "")
        yield Text()
        bars = min(max(width - BESIDE_BARS, 8), 60)
        rows = render.load_rows(self.status.models, self.status.money, bars)
        styles = [_color(model) for model in self.status.models]
        yield from _styled(table(rows, width), styles) if rows else ()
        yield Text()
        wide = width >= WIDE
        rows = render.decision_rows(self.last, reason=wide)
        give = (len(rows[0]) - 1, 2, 3) if wide and rows else (2, 3)
        yield from _styled(table(rows, width, give), []) if rows else ()


def _styled(text: str, styles: list[str]) -> Iterator[Text]:
    """The lines of a table: its heads bold, the first rows in these styles."""
    for line, style in zip_longest(text.splitlines(), ["bold", *styles], fillvalue=""):
        yield Text(line, style=style)


def _color(model: ModelView) -> str:
    """Of a model's load: nothing free or at rest, nearly full, or free."""
    share = model.in_use / model.limit if model.limit else 1.0
    if model.cooling_s > 0 or share >= 1:
        return "red"
    return "yellow" if share >= 0.8 else "green"
