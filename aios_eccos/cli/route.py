"""`aios-eccos route`: the decision for one query, without asking any model."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aios_eccos.cli.output import console, write_json

if TYPE_CHECKING:
    from aios_eccos.floor.learned import Learned
    from aios_eccos.locate import Config
    from aios_eccos.values import Decision, Model, Slots

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
    if as_json:
        write_json(_json(decision, slots, note, table.money), "-")
    else:
        _show(decision, slots, note, table.money, screen)


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


def _rows(decision: Decision, slots: Slots, money: bool) -> list[dict[str, Any]]:
    """One row a model, the cheapest first; dollars only where prices are known."""
    from dataclasses import replace

    import numpy as np

    from aios_eccos.decide.rule import net_cost
    from aios_eccos.decide.words import Case, why

    p = decision.candidate
    resting = np.array([name in slots.cooling for name in p.models])
    column = p.models.index(decision.model) if decision.model is not None else None
    case = replace(Case.of(p, column, decision.free), allowed=p.allowed & ~resting)
    net = net_cost(p.total_cost[None], p.success[None], p.price)[0]
    known = money and math.isfinite(p.price)
    return [
        {
            "model": name,
            "chosen": name == decision.model,
            "success": round(float(p.success[j]), 4),
            "output_tokens": round(float(p.output_tokens[j]), 1),
            "cost_usd": float(f"{p.cost[j]:.6g}") if money else None,
            "net_cost_usd": float(f"{net[j]:.6g}") if known else None,
            "support": round(float(p.support[j]), 2),
            "in_use": slots.limits[name] - slots.free[name],
            "limit": slots.limits[name],
            "why": why(case, j, "rests after an error" if resting[j] else ""),
        }
        for j, name in sorted(enumerate(p.models), key=lambda at: (p.cost[at[0]], at[1]))
    ]


def _json(decision: Decision, slots: Slots, note: str, money: bool) -> dict[str, Any]:
    p = decision.candidate
    return {
        "schema": "aios-eccos/route/1",
        "model": decision.model,
        "reason": decision.reason,
        "note": note,
        "floor": None if math.isnan(p.floor) else round(p.floor, 4),
        "money": money,
        "success_price_usd": p.price if money and math.isfinite(p.price) else None,
        "novelty": None if math.isnan(p.novelty) else round(p.novelty, 3),
        "decision_s": float(f"{decision.decision_s:.4g}"),
        "models": _rows(decision, slots, money),
    }


def _show(decision: Decision, slots: Slots, note: str, money: bool, screen: Any) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from aios_eccos.observe.text import money as dollars

    table = Table(box=SIMPLE, pad_edge=False)
    for head in ("model", "success", "tokens", "cost", "support", "load", "why"):
        justify: Any = "left" if head in ("model", "why") else "right"
        table.add_column(head, justify=justify, no_wrap=head != "why")
    for row in _rows(decision, slots, money):
        table.add_row(
            row["model"],
            f"{row['success'] * 100:.1f} %",
            f"{row['output_tokens']:.0f}",
            dollars(row["cost_usd"]) if money else "no price",
            f"{row['support']:.1f}",
            f"{row['in_use']}/{row['limit']}",
            row["why"],
            style="bold" if row["chosen"] else None,
        )
    screen.print(table)
    p = decision.candidate
    screen.print(f"{decision.model or 'none'}: {decision.reason}.", markup=False)
    if not math.isnan(p.floor):
        worth = f"; one more success is worth ${p.price:.3g} there" if money else ""
        screen.print(f"floor {p.floor:.3f}{worth}.")
    if not money:
        screen.print("no price is known: bigger models and longer answers count as dearer.")
    if note:
        screen.print(f"note: {note}", markup=False, style="yellow")
