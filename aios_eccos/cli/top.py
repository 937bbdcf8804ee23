"""`aios-eccos top`: what `status` and `last` show, live, over the whole screen."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from aios_eccos.cli.ask import Asker
from aios_eccos.cli.options import AiosHome, ConfigFile
from aios_eccos.metrics import percent
from aios_eccos.observe.call_views import DecisionsView
from aios_eccos.observe.render import headline, outcome
from aios_eccos.observe.text import cut, load, moment, money, seconds
from aios_eccos.observe.views import StatusView

#: Decisions asked for; as many are shown as the screen has lines for.
LAST = 60
#: Columns of the table of models beside its bars.
BESIDE_BARS = 62
#: Columns of the table of decisions beside the names of agent and model.
BESIDE_NAMES = 62
LEAST_NAME, MOST_NAME = 8, 24
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
        console = Console()
        with (
            _keys() as pressed,
            Live(screen, console=console, screen=True, refresh_per_second=4),
        ):
            while pressed(every) not in ("q", "Q", "\x03", "\x04"):
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
def _keys() -> Iterator[Callable[[float], str]]:
    """Yields a function that waits so many seconds for a key and returns it, or ""."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield _sleep
        return

    import termios  # Windows has neither
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed(seconds: float) -> str:
        try:
            ready, _, _ = select.select([handle], [], [], seconds)
            return sys.stdin.read(1) if ready else ""
        except KeyboardInterrupt:
            return "q"

    try:
        tty.setcbreak(handle)
        yield pressed
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> str:
    try:
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
        """The screen, cut to its lines."""
        width, height = options.max_width, options.max_height
        head = _head(self.status)
        used = len(head) + len(self.status.models) + 5
        parts: list[RenderableType] = [*head, "", _models(self.status, width), ""]
        parts.append(_last(self.last, max(height - used, 0), width))
        lines = console.render_lines(Group(*parts), options.update(height=None), pad=False)
        for number, line in enumerate(lines[:height]):
            yield from line
            if number < min(len(lines), height) - 1:
                yield Segment.line()


def _head(view: StatusView) -> list[Text]:
    found = []
    for line in "\n".join(headline(view)).splitlines():
        style = "bold red" if line.startswith("!") or "! BROKEN" in line else ""
        found.append(Text(line, style=style, no_wrap=True, overflow="ellipsis"))
    found[0].stylize("bold")
    return found


def _models(view: StatusView, width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False)
    table.add_column("model", no_wrap=True, overflow="ellipsis", max_width=max(width // 4, 12))
    table.add_column("load", no_wrap=True)
    for name in ("calls/day", "share", "failed", "cost", "slot price"):
        table.add_column(name, justify="right", no_wrap=True)
    bars = min(max(width - BESIDE_BARS - 12, 8), 60)
    for m in view.models:
        share = m.in_use / m.limit if m.limit else 1.0
        color = "red" if m.cooling_s > 0 or share >= 1 else "yellow" if share >= 0.8 else "green"
        table.add_row(
            Text(m.model),
            Text(load(m.in_use, m.limit, m.cooling_s, bars), style=color),
            f"{m.calls:,}",
            percent(m.share),
            f"{m.failures:,}",
            money(m.cost_usd, view.money),
            money(m.slot_price_usd, view.money) if m.slot_price_usd else "-",
        )
    return table


def _last(view: DecisionsView, rows: int, width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False)
    agent = min(max((width - BESIDE_NAMES) // 2, LEAST_NAME), MOST_NAME)
    model = min(max(width - BESIDE_NAMES - agent, LEAST_NAME), MOST_NAME)
    reason = width - BESIDE_NAMES - agent - model
    for name in ("time", "id", "agent", "model"):
        table.add_column(name, no_wrap=True)
    for name in ("promise", "cost", "waited"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    if width >= WIDE:
        table.add_column("reason", no_wrap=True)
    for trace, verdict in list(zip(view.decisions, view.verdicts, strict=True))[:rows]:
        cells: list[RenderableType] = [
            moment(trace.at)[11:],
            trace.id,
            Text(cut(trace.agent, agent)),
            Text(cut(trace.model or "-", model)),
            percent(trace.promised),
            money(trace.cost_usd, trace.money),
            seconds(trace.waited_s),
            Text(cut(outcome(trace, verdict), 8)),
        ]
        table.add_row(*cells, *([Text(cut(trace.reason, reason))] if width >= WIDE else []))
    return table
