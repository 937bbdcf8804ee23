"""`aios-eccos demo`: the first thing that anyone runs."""

from __future__ import annotations

import atexit
import logging
import math
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aios_eccos.cli.options import JsonFile, PriceFile
from aios_eccos.cli.output import bar, console, draw_table, pairs, versions, write_json
from aios_eccos.config import Floor, parse_floor
from aios_eccos.errors import ConfigError
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.history.open import open_embedder
from aios_eccos.lab.dataset import Dataset, load_dataset, load_prices, pool
from aios_eccos.lab.demo import STRATEGIES, Asked, draw_calls, run_demo
from aios_eccos.lab.outlook import add_shipped, embed_all, outlook
from aios_eccos.lab.sketch import sketch, words
from aios_eccos.locate import cache_dir
from aios_eccos.metrics import percent
from aios_eccos.values import Model

SHIPPED = Path(__file__).parents[2] / "data"
SHIPPED_DATA = SHIPPED / "demo.jsonl.gz"
SHIPPED_PRICES = SHIPPED / "demo_prices.json"
SHIPPED_VECTORS = SHIPPED / "demo_vectors.npz"
THEN = """\

Next: aios-eccos init --aios-home ~/AIOS, or demo --data FILE on your answers
Now such calls over HTTP, Redis and Chroma, by four strategies (Ctrl-C ends it)"""
NEXT = """\

Next:
  aios-eccos demo --data FILE --prices FILE  your own recorded answers
  aios-eccos init --aios-home ~/AIOS         settings for your AIOS, and why
  aios-eccos status | top | explain          what it does there, and saves"""
#: A difference of the strongest's success between history and calls that is told.
NOTED = 0.02
#: Calls in flight for models that --limit does not name.
DEFAULT_LIMIT = 4


def demo(
    data: Annotated[
        Path | None, typer.Option(help="QAServe records (.jsonl, .json, .gz); default: synthetic.")
    ] = None,
    prices: PriceFile = None,
    floor: Annotated[
        str, typer.Option(help="Success asked for: 0.75, or 95% of the strongest model's.")
    ] = "95%",
    calls: Annotated[int, typer.Option(min=1, help="Calls per strategy.")] = 200,
    agents: Annotated[int, typer.Option(min=1, help="Agents that send calls.")] = 8,
    limit: Annotated[
        list[str] | None, typer.Option(help="NAME=N: calls in flight; 4 for models not named.")
    ] = None,
    speedup: Annotated[
        float | None, typer.Option(help="Against 100 tokens/s; default: mean answer in 0.15 s.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw of calls.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Show what a recorded pool can do, then route its answers over real HTTP.

    The picture is of the recorded answers alone, and comes at once. Then four strategies serve the
    same calls. Starts embedded Redis, embedded Chroma and one replay server per model; leaves
    nothing running and nothing on disk but the embedding cache (and the file that --json names).
    """
    screen = console(json_file)
    try:
        asked = parse_floor(floor)
        limits = {name: int(value) for name, value in pairs("limit", limit).items()}
    except ValueError as error:
        raise ConfigError(f"--floor {floor}, --limit {limit}: {error}") from error
    if speedup is not None and not 0 < speedup < math.inf:
        raise ConfigError(f"--speedup {speedup:g}: wanted more than 0")
    dataset = load_dataset([data or SHIPPED_DATA])
    priced = load_prices(prices or SHIPPED_PRICES) if prices or data is None else {}
    models = pool(dataset.models, priced, limits, DEFAULT_LIMIT)
    history, test = dataset.split("train", "val", ""), dataset.split("test")
    if not history or not test:
        raise ConfigError(f"--data {data}: needs rows of split train and of split test")
    cache = EmbeddingCache(cache_dir() / "embeddings.sqlite")
    _show_pool(screen, dataset, models, asked, cache, data is None)
    totals = {"history": len(history), **dict.fromkeys(STRATEGIES, calls)}
    run = Asked(models, history, draw_calls(test, calls, seed), asked, agents, speedup)
    with _terminable(), _folder() as folder, _quiet(), _progress(totals) as advance:
        rows = run_demo(run, cache=cache, state_dir=folder, progress=advance)
    if json_file != "-":
        screen.print()
        _show(screen, rows, asked)
        screen.print(NEXT, highlight=False)
    if json_file is not None:
        named = "synthetic (shipped)" if data is None else dataset.name
        body = {"schema": "aios-eccos/demo/1", "seed": seed, "versions": versions(), "data": named}
        body |= {"data_hash": dataset.hash, "floor": str(asked), "agents": agents}
        write_json(body | {"strategies": rows}, json_file)
    if any(row["answers"] < row["calls"] for row in rows):
        raise typer.Exit(1)


def _show_pool(
    screen: Console,
    dataset: Dataset,
    models: list[Model],
    floor: Floor,
    cache: EmbeddingCache,
    synthetic: bool,
) -> None:
    """The first screen: the pool's frontier, the floor on it, and what is saved."""
    embedder = CachedEmbedder(open_embedder(), cache)
    if synthetic:
        add_shipped(dataset, embedder, SHIPPED_VECTORS)
    else:
        with bar("reading the questions", len(dataset.records)) as advance:
            embed_all(dataset, embedder, advance)
    view = outlook(dataset, models, floor, embedder)
    whose = "of invented models (CC0)" if synthetic else f"of {dataset.name}"
    if view is None:
        screen.print("Too few recorded answers to draw a frontier: 30 graded rows of history, and")
        screen.print("test rows that every model has answered, are the least.")
        return
    unit = "$" if view.money else "cost units"
    title = f"{view.calls} recorded calls {whose}: success, and {unit} per 1,000 calls"
    screen.print(title, style="bold", highlight=False)
    for line in (*sketch(view), *words(view, floor)):
        screen.print(line, soft_wrap=True, highlight=False)
    screen.print(THEN, highlight=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Faults alone are logged: that a predictor has learned goes without saying here."""
    log = logging.getLogger("aios_eccos")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C does, so that servers end and folders go."""

    def end(number: int, frame: object) -> None:
        # Once is enough: a second signal would interrupt the cleaning up.
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the run. A Redis whose start was interrupted has no user to end it."""
    place = tempfile.TemporaryDirectory(prefix="eccos-", ignore_cleanup_errors=True)
    try:
        with place as name:
            try:
                yield Path(name)
            finally:
                if sys.platform != "win32":
                    from aios_eccos.workload.embedded import stop_embedded

                    stop_embedded(Path(name))
    finally:
        # A thread that was opening Chroma when a signal came may write once more, even after this.
        shutil.rmtree(place.name, ignore_errors=True)
        atexit.register(shutil.rmtree, place.name, ignore_errors=True)


@contextmanager
def _progress(totals: dict[str, int]) -> Iterator[Callable[[str, int], None]]:
    """Bars on standard error, one a step; yields what advances them."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        steps = {name: bars.add_task(name, total=n, start=False) for name, n in totals.items()}

        def advance(name: str, done: int) -> None:
            bars.start_task(steps[name])
            bars.advance(steps[name], done)

        yield advance


def _show(screen: Console, rows: list[dict[str, Any]], floor: Floor) -> None:
    table = draw_table([_cells(row) for row in rows], f"Quality floor: {floor}")
    table.box, table.padding = None, (0, 1, 0, 0)  # 80 columns
    screen.print(table)
    screen.print(
        "wait and latency: p50/p95; decide: p50/p99; busiest: most calls at once in the server "
        "of the model nearest to its limit.",
        style="dim",
    )
    for sentence in _sentences({row["name"]: row for row in rows}, floor):
        screen.print(sentence, highlight=False)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """A strategy's figures by head; short enough that the table fits 80 columns."""
    return {
        "strategy": row["name"],
        "success": percent(row["success"]),
        "promised": percent(row["promised_success"]),
        "cost $": _dollars(row["cost_usd"]),
        "wait s": _pair(row["wait_p50_s"], row["wait_p95_s"], 2),
        "latency s": _pair(row["latency_p50_s"], row["latency_p95_s"], 2),
        "decide ms": _pair(row["decision_p50_s"], row["decision_p99_s"], 1, 1e3),
        "busiest": _busiest(row),
    }


def _sentences(by_name: dict[str, dict[str, Any]], floor: Floor) -> Iterator[str]:
    """What the figures say of the floor, of limits and of cost beside the strongest model's."""
    ours, strongest = by_name["eccos"], by_name["strongest"]
    if ours["success"] is not None and strongest["success"]:
        p, best, n = ours["success"], strongest["success"], ours["answers"]
        asked = floor.of(best) / best
        # Of both successes, as if they were independent: at most this.
        error = 1.96 * math.sqrt((p * (1 - p) + best * (1 - best)) / n) / best
        yield (
            f"On the same calls the strongest model succeeded in {percent(best)}, eccos in "
            f"{percent(p)}: {percent(p / best)} of that, where {percent(asked)} was asked "
            f"(± {error * 100:.1f}, the sampling error of {n} calls)."
        )
        if floor.relative and ours["floor"] and abs(ours["floor"] - asked * best) > NOTED:
            yield (
                f"Promises go by history, where it succeeded in {percent(ours['floor'] / asked)}: "
                f"these calls are {'harder' if ours['floor'] > asked * best else 'easier'}."
            )
    if ours["limited"]:
        yield (
            f"Limits bound: {percent(ours['limited'])} of eccos's calls took another model "
            "because theirs was at its limit."
        )
    if ours["cost_usd"] is not None and strongest["cost_usd"]:
        yield (f"eccos cost {ours['cost_usd'] / strongest['cost_usd']:.2f} x the strongest model.")
    if ours["cost_usd"] is None:
        yield "No price is known: bigger models and longer answers counted as dearer (--prices)."


def _busiest(row: dict[str, Any]) -> str:
    share = {name: peak / row["limits"][name] for name, peak in row["peak_in_flight"].items()}
    name = max(share, key=lambda name: share[name])
    return f"{row['peak_in_flight'][name]} of {row['limits'][name]}"


def _dollars(cost: float | None) -> str:
    if cost is None:
        return "no price"
    return f"{cost:.4f}" if cost >= 0.001 or cost == 0 else f"{cost:.2g}"


def _pair(low: float | None, high: float | None, digits: int, unit: float = 1.0) -> str:
    """Two percentiles in at most nine characters."""
    if low is None or high is None:
        return "-"

    def short(value: float) -> str:
        return f"{value:.{min(digits, 2 - (value >= 9.995) - (value >= 99.95))}f}"

    return f"{short(low * unit)}/{short(high * unit)}"
