"""`aios-eccos top`: what `status` and `last` show, live, over the whole screen."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from aios_eccos.cli.ask import Asker
from aios_eccos.cli.options import AiosHome, ConfigFile
from aios_eccos.cli.top_screen import Screen
from aios_eccos.observe.call_views import DecisionsView
from aios_eccos.observe.views import StatusView

#: Decisions asked for; as many are shown as the screen has lines for.
LAST = 60
QUIT = ("q", "Q", "\x03", "\x04")
#: Size of the one look that goes into a pipe or a file.
UNSEEN = (80, 40)


def top(
    every: Annotated[float, typer.Option(min=0.2, max=60.0, help="Seconds between looks.")] = 1.0,
    aios_home: AiosHome = None,
    config: ConfigFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a look, without a screen.")
    ] = False,
) -> None:
    """Watch load, calls, spending, success, policies, caps and the last decisions.

    `q` ends it, `p` pauses it. Into a pipe or a file it prints one look.
    """
    with Asker(config, aios_home) as asker:
        if as_json:
            _print_looks(asker, every)
        screen = Screen(*_look(asker))
        if not sys.stdout.isatty():
            lines = (line.plain.rstrip() for line in screen.lines(*UNSEEN)[:-1])
            sys.stdout.write("\n".join(lines).rstrip() + "\n")
            return
        with _keys() as typed, Live(screen, console=Console(), screen=True, refresh_per_second=4):
            while (key := _pressed(every, typed)) not in QUIT:
                screen.paused ^= key in ("p", "P")
                if not screen.paused or key == " ":
                    screen.status, screen.last = _look(asker)


def _look(asker: Asker) -> tuple[StatusView, DecisionsView]:
    return (
        asker.get("/eccos/status", StatusView, lambda reader: reader.status()),
        asker.get(f"/eccos/decisions?n={LAST}", DecisionsView, lambda d: d.decisions(LAST)),
    )


def _print_looks(asker: Asker, every: float) -> None:
    """A line of JSON a look, until the reader goes or Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        while not getattr(sys.stdout, "unread", False):
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
            # Not through Python's buffer, which would keep a second key from `select`.
            return os.read(sys.stdin.fileno(), 1).decode("latin-1") or QUIT[0]
        if not typed:
            time.sleep(seconds)
    except KeyboardInterrupt:
        return "q"
    return ""
