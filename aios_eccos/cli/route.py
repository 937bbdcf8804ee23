"""`aios-eccos route`: the decision for one query, without asking any model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from aios_eccos.cli.ask import Asker
from aios_eccos.cli.options import AiosHome, AsJson, ConfigFile, PriceFile
from aios_eccos.cli.output import console, draw_table, write_json
from aios_eccos.config import Floor, parse_settings
from aios_eccos.decide.assign import slots_of
from aios_eccos.errors import ConfigError, HistoryError, WorkloadError
from aios_eccos.floor.configured import keepable
from aios_eccos.floor.learn import head_path, learn_from
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.pricing import configured_models
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.open import open_embedder
from aios_eccos.lab.dataset import load_prices, pool
from aios_eccos.locate import Config
from aios_eccos.metrics import percent
from aios_eccos.observe.call_views import RouteView
from aios_eccos.observe.explain import route_view
from aios_eccos.observe.opened import history_of, redis_runs, workload_of
from aios_eccos.observe.text import money
from aios_eccos.serve.router import Router
from aios_eccos.serve.tracing import decide_dry, limits_of
from aios_eccos.values import Model, Slots
from aios_eccos.workload.memory import MemoryWorkload


def route(
    text: Annotated[str, typer.Argument(help="What an agent would ask.")],
    agent: Annotated[str, typer.Option(help="Who asks, for floors by agent.")] = "",
    floor: Annotated[str | None, typer.Option(help="Instead of the configured floor.")] = None,
    prices: PriceFile = None,
    config: ConfigFile = None,
    aios_home: AiosHome = None,
    as_json: AsJson = False,
) -> None:
    """Show which model would serve a query, and why. Asks no model and takes no slot.

    Without configured models, those that the history knows are compared.
    """
    asked = None if floor is None else parse_settings({"quality_floor": floor}).quality_floor
    body = {"text": text, "agent": agent, "floor": floor}
    with Asker(config, aios_home) as asker:
        view = asker.kernel("/eccos/route", RouteView, body)
        if view is None:
            view = _decided_here(asker.config, text, agent, asked, prices)
    if as_json:
        write_json(view.model_dump(by_alias=True), "-")
    else:
        _show(view)


def _decided_here(
    config: Config, text: str, agent: str, floor: Floor | None, prices: Path | None
) -> RouteView:
    """The decision without a kernel."""
    with ExitStack() as opened:
        models, learned, note = _learned(config, prices, opened)
        settings = keepable(config.settings, models)
        if floor is not None:
            settings = settings.model_copy(update={"quality_floor": floor})
        slots = _slots(config, models)
        router = Router(models, settings, MemoryWorkload(), learned)
        trace = decide_dry(router, slots, text, agent)
    return route_view(trace, limits_of(router, slots), note)


def _learned(
    config: Config, prices: Path | None, opened: ExitStack
) -> tuple[list[Model], Learned | None, str]:
    """The pool, what the history says of it, and what the reader should know about that.

    Forecasts read the history, so `opened` closes it.
    """
    models = configured_models(config)
    embedder = open_embedder(config.settings.embedder)
    try:
        history = opened.enter_context(history_of(config, embedder))
    except HistoryError as error:
        if not models:
            raise
        return models, None, f"forecast on priors: {error}"
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
    learned = learn_from(history, background, config.settings, models, head)
    return models, learned, "" if history.count() else "forecast on priors: no history yet"


def _slots(config: Config, models: list[Model]) -> Slots:
    """The load now; all free where no kernel keeps a workload."""
    limits = {model.slot: model.limit for model in models}
    try:
        if redis_runs(config):
            with workload_of(config) as workload:
                return slots_of(models, workload.loads(limits))
    except WorkloadError:
        pass  # as if nobody served
    return slots_of(models, MemoryWorkload().loads(limits))


def _show(view: RouteView) -> None:
    screen = console()
    rows = [
        {
            "model": row.model,
            "success": percent(row.success),
            "tokens": f"{row.output_tokens:.0f}",
            "cost": money(row.cost_usd) if view.money else "no price",
            "support": f"{row.support:.1f}",
            "load": f"{row.in_use}/{row.limit}",
            "why": row.why,
        }
        for row in view.models
    ]
    chosen = [number for number, row in enumerate(view.models) if row.chosen]
    screen.print(draw_table(rows, words=["why"], bold=chosen))
    screen.print(f"{view.model or 'none'}: {view.reason}.", markup=False)
    if view.floor is not None:
        price = view.success_price_usd if view.money else None
        worth = f"; one more success is worth ${price:.3g} there" if price is not None else ""
        screen.print(f"floor {view.floor:.3f}{worth}.")
    if not view.money:
        screen.print("no price is known: bigger models and longer answers count as dearer.")
    if view.note:
        screen.print(f"note: {view.note}", markup=False, style="yellow")
