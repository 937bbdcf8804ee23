"""What is shown of an evaluation: JSON, and tables as rows of text for a screen or a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aios_eccos.lab.metrics import Estimate, estimate
from aios_eccos.lab.parts import BATCHES, OptimizerRow, Ratios, Robustness, Streams
from aios_eccos.lab.strategy import Played
from aios_eccos.lab.summary import HEADLINE_COST, At, Headline, Line, Summary
from aios_eccos.observe.shape import clean

#: What the JSON calls fields of `Played`.
JSON_NAMES = {
    "promised": "promised_success",
    "cost": "cost_per_call_usd",
    "violations": "limit_violations",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text by head; the `wide` heads only for wide screens."""

    title: str
    rows: tuple[dict[str, str], ...]
    note: str = ""
    wide: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured; robustness, optimizers and streams only where they were."""

    models: tuple[str, ...]
    rows: tuple[Played, ...]
    summary: Summary
    optimizers: tuple[OptimizerRow, ...] = ()
    robustness: Robustness | None = None
    streams: tuple[Streams, ...] = ()


def as_json(results: Results, facts: Mapping[str, Any]) -> dict[str, Any]:
    """`aios-eccos/evaluate/1`; `facts` are seed, versions, data hash and what was asked for."""
    summary = results.summary
    headline = summary.headline
    return {
        "schema": "aios-eccos/evaluate/1",
        **facts,
        "rows": [
            {JSON_NAMES.get(key, key): clean(value) for key, value in asdict(row).items()}
            for row in results.rows
        ],
        "summary": [clean({**asdict(line), "verdict": line.verdict}) for line in summary.lines],
        "settings": [clean(asdict(at)) for at in summary.at],
        "compared_with": None if summary.ours is None else summary.ours[1],
        "targets": list(summary.targets),
        "best_single": summary.best,
        "threshold": None if headline is None else clean(asdict(headline)),
        "optimizers": [clean(asdict(row)) for row in results.optimizers],
        "streams": [
            clean({"split": s.split, "rows": part, "rule": rule, "batch": batch, "ratio": ratio})
            for s in results.streams
            for part, found in (("test", s.test), ("history", s.history))
            for (rule, batch), ratio in found.items()
        ],
        "robustness": None if results.robustness is None else clean(asdict(results.robustness)),
    }


def tables(results: Results, asked: Sequence[float]) -> list[Table]:
    found = [floors_table(results.summary, asked), peers_table(results.summary)]
    if any(at.strategy == "batch_robust" for at in results.summary.at):
        found.insert(1, floors_table(results.summary, asked, "batch_robust"))
    if results.summary.headline is not None:
        found.append(headline_table(results.summary.headline))
    if results.optimizers:
        found.append(optimizers_table(results.optimizers))
    if results.streams:
        found.append(streams_table(results.streams))
    if results.robustness is not None:
        found.append(robustness_table(results.robustness))
    return found


def floors_table(summary: Summary, asked: Sequence[float], strategy: str = "eccos") -> Table:
    """What a strategy makes of the floors (`eccos`: and budgets) that were asked for."""
    ours = summary.ours[1] if summary.ours else None
    best = {at.value: at for at in summary.at if at.strategy == "clairvoyant"}
    rows = []
    for at in summary.at:
        budget = at.name == "budget" and strategy == "eccos"
        wanted = budget or (at.name == "floor" and any(_same(at.value, f) for f in asked))
        if at.strategy != strategy or at.predictor != ours or not wanted:
            continue
        seer = best.get(at.value)
        rows.append(
            {
                "asked": _asked(at),
                "success %": _percent(at.success),
                "promised": _percent(at.promised, plain=True),
                "|error|": _percent(at.error, plain=True),
                "$ / 1000": _dollars(at.cost),
                "seer": "-" if seer is None else _dollars(seer.cost, plain=True),
                "worst task": f"{at.worst_task} {at.worst.mean * 100:.1f}",
                "over": f"{at.violations.mean:g}",
            }
        )
    note = (
        "$ / 1000: dollars per 1,000 calls; seer: the least possible, true outcomes known; over: "
        "calls above a limit. A floor below the cheapest model's success is exceeded for free."
    )
    return Table(f"{strategy} ({ours}): asked and realised", tuple(rows), note)


def peers_table(summary: Summary) -> Table:
    """Every strategy beside `eccos` at equal success."""
    rows = tuple(
        {
            "strategy": _name(line),
            "success %": "-" if line.points > 1 else _percent(line.success),
            "$ / 1000": "-" if line.points > 1 else _dollars(line.cost),
            "eccos costs": _ratio(line.cost_ratio),
            "eccos is": line.verdict,
            "gap %": _percent(line.gap_closed, plain=True),
            "gain %": _percent(line.gain, plain=True),
            "save %": _percent(line.save, plain=True) + ("" if line.saved_on else " *"),
            "distance": f"{line.distance.mean:.3f}",
            "over": f"{line.violations.mean:.3g}",
            "us": f"{line.decision_s.mean * 1e6:.0f}",
        }
        for line in sorted(summary.lines, key=_rank)
    )
    note = (
        "eccos costs: cost of eccos over the strategy's at equal realised success, geometric mean; "
        "left/on/right of it within two standard errors. gap: share of the way from mixing single "
        "models to the clairvoyant bound. gain, save, distance: PerfGain, CostSave, ParetoDist "
        "(LLMRouterBench); * the best single model's success was not reached. over: calls above a "
        "limit (a strategy that breaks limits is cheap for that). us: "
        "microseconds per decision, forecasts not included. oracle and clairvoyant "
        "look at the outcomes."
    )
    wide = ("gap %", "gain %", "distance", "us")
    return Table("Strategies at equal success", rows, note, wide)


def headline_table(head: Headline) -> Table:
    """Beside AIOS's own threshold as shipped."""
    rows = {
        "points more at its cost": _percent(head.gain),
        f"points more at {HEADLINE_COST} x its cost (paper: +6.30)": _percent(head.gain_cheaper),
        "cost at its success, x its cost": _ratio(head.cost_ratio),
        "the same by mixing two single models": _ratio(head.hull_ratio),
    }
    return Table(
        "eccos beside AIOS's threshold at its shipped 0.7",
        tuple({"": name, "eccos": value} for name, value in rows.items()),
    )


def optimizers_table(found: Sequence[OptimizerRow]) -> Table:
    """The paper's optimizer beside ours, on the same forecasts and floors."""
    rows = tuple(
        {
            "limits": row.limits,
            "optimizer": row.optimizer,
            "cost": _ratio(row.cost_ratio),
            "floors kept": f"{row.kept * 100:.0f} %",
            "worst short": f"{row.worst_short * 100:.2f}",
            "over": f"{row.over:.1f}",
            "ms": f"{row.milliseconds:.1f}",
        }
        for row in found
    )
    note = (
        "cost: beside the optimum's, where the floor was kept; worst short: points of forecast "
        "success below the floor; over: calls above a limit, mean; ms: per batch."
    )
    return Table("The paper's dual ascent and our optimizer", rows, note)


def streams_table(found: Sequence[Streams]) -> Table:
    """Cost beside one batch where calls come a few at a time."""

    def mean(parts: Sequence[Ratios], rule: str, batch: int | None) -> str:
        return _ratio(estimate([part[rule, batch] for part in parts if (rule, batch) in part]))

    test, history = [s.test for s in found], [s.history for s in found]
    rows = tuple(
        {
            "batch": "all" if batch is None else f"{batch}",
            "at history's price": mean(test, "price", batch),
            "floor per batch": mean(test, "floor", batch),
            "price (history)": mean(history, "price", batch),
            "floor (history)": mean(history, "floor", batch),
        }
        for batch in (*BATCHES, None)
    )
    note = (
        "Cost beside the one-batch assignment of the same forecasts, at equal realised success, "
        "geometric mean over floors; no limits, no outcomes seen. history: half of it, priced on "
        "the other half."
    )
    return Table("Calls as they come", rows, note)


def robustness_table(found: Robustness) -> Table:
    """How far picks move when only the wording does."""
    changes = [(name, f"{share * 100:.1f} %", "-") for name, share in found.unchanged.items()]
    changes.append(("20 adversarial prefixes, mean", "-", f"{found.added_mean * 100:+.1f} %"))
    changes.append((f"worst: {found.worst_prefix[:40]}", "-", f"{found.added_worst * 100:+.1f} %"))
    rows = tuple(
        {"change": change, "picks unchanged": kept, "cost added": added}
        for change, kept, added in changes
    )
    note = f"{found.rows} test calls at floor {found.floor:.2f}, predictor {found.predictor}."
    return Table("Robustness", rows, note)


def _rank(line: Line) -> tuple[int, float]:
    """Those that look at outcomes first, then by what eccos costs beside them, dearest first."""
    if line.strategy in ("clairvoyant", "oracle"):
        return 0, 0.0
    ratio = line.cost_ratio.mean
    return 1, -ratio if math.isfinite(ratio) else -math.inf


def _name(line: Line) -> str:
    return line.strategy if line.predictor is None else f"{line.strategy} ({line.predictor})"


def _asked(at: At) -> str:
    value = 0.0 if at.value is None else at.value
    return f"{value:.3g}" if at.name == "floor" else f"${value * 1e3:.3g} / 1000"


def _same(value: float | None, wanted: float) -> bool:
    return value is not None and abs(value - wanted) < 1e-9


def _percent(value: Estimate, *, plain: bool = False) -> str:
    return _with_error(value, 100.0, "{:.1f}", plain)


def _dollars(value: Estimate, *, plain: bool = False) -> str:
    return _with_error(value, 1000.0, "{:.3g}", plain)


def _with_error(value: Estimate, scale: float, form: str, plain: bool) -> str:
    if not math.isfinite(value.mean):
        return "-"
    text = form.format(value.mean * scale)
    if plain or not math.isfinite(value.error):
        return text
    return f"{text}±{float(f'{value.error * scale:.1g}'):g}"


def _ratio(value: Estimate) -> str:
    if not math.isfinite(value.mean):
        return "-"
    text = f"{value.mean:.3g}x"
    return text if not math.isfinite(value.error) else f"{text} ±{value.error * 100:.0f}%"
