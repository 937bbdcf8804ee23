"""What commands share of their output: where it goes, tables, bars, versions, JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aios_eccos import __version__, files
from aios_eccos.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Libraries whose versions decide a measurement.
MEASURED_WITH = ("numpy", "scipy", "torch", "sentence-transformers", "chromadb", "redis")
#: Columns of what goes into a file or a pipe.
UNSEEN_WIDTH = 120


def draw_table(
    rows: Sequence[Mapping[str, object]],
    title: str | None = None,
    words: Collection[str] = (),
    bold: Collection[int] = (),
) -> Table:
    """Rows of cells by head: the first column and `words` to the left, others are numbers.

    Args:
        bold: the numbers of rows that stand out.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    for number, head in enumerate(rows[0] if rows else ()):
        word = number == 0 or head in words
        drawn.add_column(head, justify="left" if word else "right", no_wrap=number == 0 or not word)
    for number, row in enumerate(rows):
        drawn.add_row(*map(_cell, row.values()), style="bold" if number in bold else None)
    return drawn


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on standard error, on a terminal; yields what advances it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    # The speed is that of all that was done: steps are few and long.
    hidden = not screen.is_terminal
    with Progress(*columns, console=screen, disable=hidden, speed_estimate_period=3600) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.advance(task, done)


def console(json_file: str | None = None) -> Console:
    """Where people read: standard output, or standard error when that carries JSON."""
    from aios_eccos.cli.screen import PlainConsole

    stderr = json_file == "-"
    # Into a file or a pipe, rich would cut tables to 80 columns.
    seen = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    return PlainConsole(stderr=stderr, width=None if seen else UNSEEN_WIDTH)


def versions() -> dict[str, str]:
    """Versions of Python, the plugin and the libraries that decide a measurement."""
    found = {"python": platform.python_version(), "aios-eccos": __version__}
    for name in MEASURED_WITH:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_json(value: Mapping[str, Any], target: str) -> None:
    """Write one JSON object to a file, or to standard output for `-`; else `ConfigError`."""
    from aios_eccos.observe.shape import clean  # pydantic: `--help` does without

    text = json.dumps(clean(value, 17), indent=2, ensure_ascii=False, allow_nan=False)
    if target == "-":
        sys.stdout.write(text + "\n")
        return
    try:
        path = Path(target)
        if path.exists() and not path.is_file():  # a pipe, or a device
            path.write_text(text + "\n", encoding="utf-8")
        else:
            files.write(path, text + "\n", mode=0o644)
    except OSError as error:
        raise ConfigError(f"--json {target}: {error.strerror or error}") from error


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping; `ConfigError` where one is not of that form."""
    found = {}
    for text in given or []:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise ConfigError(f"--{option} {text}: wanted NAME=VALUE")
        found[name] = value
    return found


def token_prices(given: list[str] | None) -> dict[str, tuple[float, float]]:
    """`--price NAME=IN,OUT` options, dollars per million tokens, as dollars per token.

    Raises:
        ConfigError: one is not of that form, or a price is negative or no number.
    """
    found = {}
    for name, text in pairs("price", given).items():
        try:
            per_input, per_output = (float(part) / 1e6 for part in text.split(","))
        except ValueError as error:
            raise ConfigError(f"--price {name}={text}: wanted NAME=IN,OUT") from error
        if not (0 <= per_input < 1 and 0 <= per_output < 1):
            wanted = "wanted dollars per million tokens, 0 or more"
            raise ConfigError(f"--price {name}={text}: {wanted}")
        found[name] = (per_input, per_output)
    return found


def numbers(option: str, text: str, most: float = float("inf")) -> list[float]:
    """`a,b` or `start:stop:step` (both ends included) as numbers from 0 to `most`.

    Raises:
        ConfigError: it is neither, or out of range.
    """
    try:
        if ":" in text:
            start, stop, step = (float(part) for part in text.split(":"))
            count = math.floor((stop - start) / step + 1e-9) + 1 if step > 0 else 0
            if not 0 < count <= 1000:
                raise ValueError("wanted start:stop:step with up to 1000 steps upwards")
            found = [round(start + i * step, 12) for i in range(count)]
        else:
            found = [float(part) for part in text.split(",") if part.strip()]
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"--{option} {text}: {error}") from error
    wrong = [value for value in found if not 0 <= value <= most]
    if wrong:
        raise ConfigError(f"--{option} {text}: {wrong[0]:g} is not from 0 to {most:g}")
    return found
