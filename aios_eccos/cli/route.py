"""`aios-eccos route`: the decision for one query, without asking any model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aios_eccos.cli.output import console, write_json

if TYPE_CHECKING:
    from aios_eccos.floor.learned import Learned
    from aios_eccos.locate import Config
    from aios_eccos.observe.route import RouteView
    from aios_eccos.values import Model, Slots

#: Characters a token, where no tokenizer of the model is at hand.
CHARACTERS_PER_TOKEN = 4


def route(
    text: Annotated[str, typer.Argument(help="What an agent would ask.")],
    agent: Annotated[str, typer.Option(help="Who asks, for floors by agent.")] = "",
    floor: Annotated[str | None, typer.Option(help="Instead of the configured floor.")] = None,
    prices: Annotated[
        Path | None, typer.Option(help="Dollars per million tokens by model (JSON).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A config.yaml of AIOS.")] = None,
    aios_home: Annotated[Path | None, typer.Option(help="AIOS's checkout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which model would serve a query, and why. Asks no model and takes no slot.

    Without configured models, those that the history knows are compared.
    """
    from aios_eccos.forecast.pricing import price_table
    from aios_eccos.locate import load_config, locate
    from aios_eccos.observe.route import route_view
    from aios_eccos.serve.router import Router
    from aios_eccos.values import Query
    from aios_eccos.workload.memory import MemoryWorkload

    screen = console("-" if as_json else None)
    found = _with_floor(load_config(locate(config, aios_home)), floor)
    query = Query(text=text, agent=agent, input_tokens=len(text) // CHARACTERS_PER_TOKEN + 1)
    with ExitStack() as opened:
        models, learned, note = _learned(found, prices, opened)
        table = price_table(models)
        router = Router(models, found.settings, table, MemoryWorkload(), learned)
        (candidate,) = router.forecast([query])
        slots = _slots(found, models)
        (decision,) = router.assign([candidate], slots).decisions
    view = route_view(decision, slots, note, table.money)
    if as_json:
        write_json(view.model_dump(by_alias=True), "-")
    else:
        _show(view, screen)


def _with_floor(config: Config, floor: str | None) -> Config:
    from dataclasses import replace

    from aios_eccos.config import parse_settings

    if floor is None:
        return config
    changed = config.settings.model_copy(
        update={"quality_floor": parse_settings({"quality_floor": floor}).quality_floor}
    )
    return replace(config, settings=changed)


def _learned(
    config: Config, prices: Path | None, opened: ExitStack
) -> tuple[list[Model], Learned | None, str]:
    """The pool, what the history says of it, and what the reader should know about that.

    Forecasts read the history, so `opened` closes it.
    """
    from aios_eccos.errors import ConfigError, HistoryError
    from aios_eccos.floor.learn import head_path, learn_from
    from aios_eccos.forecast.pricing import price_table
    from aios_eccos.history.embed.embedding import BackgroundEmbedder
    from aios_eccos.history.open import open_embedder, open_history
    from aios_eccos.lab.dataset import load_prices, pool
    from aios_eccos.serve.engine import configured_models

    settings = config.settings
    models = configured_models(config)
    embedder = open_embedder(settings.embedder)
    try:
        history = open_history(settings.history, config.location.state_dir, embedder)
    except HistoryError as error:
        if not models:
            raise
        return models, None, f"forecast on priors: {error}"
    opened.callback(history.close)
    if not models:
        known = history.table(limit=1000).models
        if not known:
            raise ConfigError(
                "no models: none are configured and the history is empty; name an AIOS "
                "checkout with --aios-home, or add records with `aios-eccos ingest FILE`"
            )
        models = pool(known, load_prices(prices) if prices else {}, {}, 32)
    background = BackgroundEmbedder(lambda: embedder)
    background.wait()
    head = head_path(config.location.state_dir)
    knows = learn_from(history, background, settings, price_table(models), head)
    return models, knows, "" if history.count() else "forecast on priors: no history yet"


def _slots(config: Config, models: list[Model]) -> Slots:
    """The load now; all free where no kernel keeps a workload."""
    from aios_eccos.decide.assign import slots_of
    from aios_eccos.errors import WorkloadError
    from aios_eccos.workload.connect import open_workload
    from aios_eccos.workload.memory import MemoryWorkload
    from aios_eccos.workload.store import WorkloadStore

    settings = config.settings
    limits = {model.slot: model.limit for model in models}
    workload: WorkloadStore = MemoryWorkload()
    try:
        if settings.redis == "embedded" and not _embedded_runs(config.location.state_dir):
            return slots_of(models, workload.loads(limits))
        workload = open_workload(
            settings.redis,
            state_dir=config.location.state_dir,
            namespace=settings.namespace,
            member=False,
        )
        return slots_of(models, workload.loads(limits))
    except WorkloadError:
        return slots_of(models, MemoryWorkload().loads(limits))
    finally:
        workload.close()


def _embedded_runs(state_dir: Path) -> bool:
    """Whether anyone keeps a workload; a server is not started to ask it."""
    import sys

    if sys.platform == "win32":
        return False
    from aios_eccos.workload.embedded import embedded_runs

    return embedded_runs(state_dir)


def _show(view: RouteView, screen: Any) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from aios_eccos.observe.text import money as dollars

    table = Table(box=SIMPLE, pad_edge=False)
    for head in ("model", "success", "tokens", "cost", "support", "load", "why"):
        justify: Any = "left" if head in ("model", "why") else "right"
        table.add_column(head, justify=justify, no_wrap=head != "why")
    for row in view.models:
        table.add_row(
            row.model,
            f"{row.success * 100:.1f} %",
            f"{row.output_tokens:.0f}",
            dollars(row.cost_usd) if view.money else "no price",
            f"{row.support:.1f}",
            f"{row.in_use}/{row.limit}",
            row.why,
            style="bold" if row.chosen else None,
        )
    screen.print(table)
    screen.print(f"{view.model or 'none'}: {view.reason}.", markup=False)
    if view.floor is not None:
        price = view.success_price_usd if view.money else None
        worth = f"; one more success is worth ${price:.3g} there" if price is not None else ""
        screen.print(f"floor {view.floor:.3f}{worth}.")
    if not view.money:
        screen.print("no price is known: bigger models and longer answers count as dearer.")
    if view.note:
        screen.print(f"note: {view.note}", markup=False, style="yellow")
