"""`aios-eccos evaluate --mode onboarding`: what savings without labels cost from the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.cli.output import bar, console, draw_table, versions, write_json
from aios_eccos.config import parse_settings
from aios_eccos.errors import ConfigError
from aios_eccos.lab.answers import Answers, answers_of, keys_in_file, keys_of
from aios_eccos.lab.dataset import Dataset, load_dataset, open_recorded
from aios_eccos.lab.onboarding import (
    MOST_USED,
    Stream,
    Terms,
    facts_at,
    stream,
    summary_of,
)
from aios_eccos.lab.plots import draw_onboarding

SCHEMA = "aios-eccos/onboarding/1"
#: Calls after which the table has a row, beside all.
AT = (100, 200, 500, 1000)


@dataclass(frozen=True)
class OnboardingOptions:
    """The options of `evaluate` that only this mode has, as they were given."""

    answers: Path | None
    floor: str
    audit: str
    judge: str
    judge_error: float
    orders: int
    worse: str


def onboard(
    data: list[Path],
    prices: Path | None,
    seed: int,
    options: OnboardingOptions,
    json_file: str | None,
    plot: Path | None,
) -> None:
    """Stream recorded answers from an empty history, and show what that comes to."""
    dataset = load_dataset(data)
    keys = keys_of(dataset) if options.answers is None else keys_in_file(options.answers)
    answers = answers_of(open_recorded(dataset, prices), keys)
    terms = _terms(answers, options)
    with bar("orders", options.orders) as advance:
        found = []
        for number in range(options.orders):
            found.append(stream(answers, terms, seed, number))
            advance(1)
    report = _report(dataset, answers, terms, found, seed, options)
    if json_file != "-":
        _show(json_file, report)
    if json_file is not None:
        write_json(report, json_file)
    if plot is not None:
        draw_onboarding(found, plot)


def _terms(answers: Answers, options: OnboardingOptions) -> Terms:
    """What is simulated; ConfigError names an option that makes no sense."""
    if not answers.prices.money:
        raise ConfigError("--prices: without prices nothing can be saved, nor audits be paid")
    settings = parse_settings({"quality_floor": options.floor, "audit": options.audit})
    if not settings.quality_floor.relative:
        raise ConfigError(f"--floor {options.floor}: wanted a share of the strongest, such as 95 %")
    names = [model.name for model in answers.models]
    for option, name in (("judge", options.judge), ("worse", options.worse)):
        if name and name not in (*names, *([MOST_USED] if option == "worse" else [])):
            raise ConfigError(f"--{option} {name}: the data knows {', '.join(names)}")
    return Terms(
        settings=settings,
        judge=names.index(options.judge) if options.judge else answers.judge,
        judge_error=options.judge_error,
        worse=options.worse,
    )


def _report(
    dataset: Dataset,
    answers: Answers,
    terms: Terms,
    found: Sequence[Stream],
    seed: int,
    options: OnboardingOptions,
) -> dict[str, Any]:
    calls = len(answers.success)
    each = [summary_of(one, terms.settings.quality_floor) for one in found]
    return {
        "schema": SCHEMA,
        "seed": seed,
        "versions": versions(),
        "data": dataset.name,
        "data_hash": dataset.hash,
        "calls": calls,
        "floor": options.floor,
        "audit": options.audit,
        "strongest": answers.models[answers.strongest].name,
        "judge": answers.models[terms.judge].name,
        "judge_error": terms.judge_error,
        "worse": terms.worse or None,
        "rows": [
            {"order": number, "at": at, **facts_at(one, at)}
            for number, one in enumerate(found)
            for at in (*(at for at in AT if at < calls), calls)
        ],
        "turns": [[{"call": call, "what": what} for call, what in one.turns] for one in found],
        "orders": each,
        "summary": {name: float(np.mean([one[name] for one in each])) for name in each[0]},
    }


def _show(json_file: str | None, report: Mapping[str, Any]) -> None:
    screen = console(json_file)
    rows = []
    for at in dict.fromkeys(row["at"] for row in report["rows"]):
        mine = [row for row in report["rows"] if row["at"] == at]
        mean = {name: float(np.mean([row[name] for row in mine])) for name in mine[0]}
        rows.append(
            {
                "calls": at,
                "cost": f"${mean['cost_usd']:.3f}",
                "of strongest's": f"{mean['cost_usd'] / mean['strongest_cost_usd']:.3f}",
                "audits": f"${mean['audit_usd']:.3f}",
                "judge": f"${mean['judge_usd']:.3f}",
                "success": f"{mean['success']:.4f}",
                "strongest's": f"{mean['strongest_success']:.4f}",
                "routed": f"{mean['served_share']:.0%}",
            }
        )
    orders = len(report["orders"])
    title = f"From an empty history, without labels: {report['data']}, means of {orders} orders"
    screen.print(draw_table(rows, title))
    s = report["summary"]
    screen.print(
        f"cost of everything {s['cost_ratio']:.3f} of {report['strongest']} alone, last third "
        f"{s['last_third_cost_ratio']:.3f}; success {s['success_gap']:+.4f}, worst after 300 calls "
        f"{s['worst_gap_after_300']:+.4f}; audits paid back after {s['paid_back_after']:.0f} calls"
    )
    screen.print(f"judge: {report['judge']}, wrong in {report['judge_error']:.0%}", style="dim")
    if report["worse"]:
        screen.print(
            f"made worse at half time: {report['worse']}; from 300 calls after (of few, 150) "
            f"success falls short of the floor by {s['later_shortfall']:+.4f}"
        )
