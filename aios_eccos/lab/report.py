"""What is shown of an evaluation: JSON, and tables as rows of text for a screen or a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aios_eccos.lab.compare import OptimizerRow
from aios_eccos.lab.metrics import Estimate, estimate
from aios_eccos.lab.replay import Played
from aios_eccos.lab.robustness import Robustness
from aios_eccos.lab.stream import BATCHES, Streams
from aios_eccos.lab.summary import HEADLINE_COST, At, Line, Summary


@dataclass(frozen=True, slots=True)
class Table:
    """A table: title, heads, rows of text, a note below, and heads for wide screens alone."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    wide: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured.

    Attributes:
        models: m names, naming the shares' columns.
        optimizers: the paper's optimizer beside ours; empty if that was not measured.
        robustness: None if it was not measured.
        streams: what it costs that calls come a few at a time, by split; empty without a stream.
    """

    models: tuple[str, ...]
    rows: tuple[Played, ...]
    summary: Summary
    optimizers: tuple[OptimizerRow, ...] = ()
    robustness: Robustness | None = None
    streams: tuple[Streams, ...] = ()


def as_json(results: Results, facts: Mapping[str, Any]) -> dict[str, Any]:
    """`aios-eccos/evaluate/1`.

    Args:
        facts: seed, versions, data hash and what was asked for.
    """
    summary = results.summary
    headline = summary.headline
    return {
        "schema": "aios-eccos/evaluate/1",
        **facts,
        "rows": [_row(row, results.models) for row in results.rows],
        "summary": [_clean({**asdict(line), "verdict": line.verdict}) for line in summary.lines],
        "settings": [_clean(asdict(at)) for at in summary.at],
        "compared_with": None if summary.ours is None else summary.ours[1],
        "targets": list(summary.targets),
        "best_single": summary.best,
        "threshold": None if headline is None else _clean(asdict(headline)),
        "optimizers": [_clean(asdict(row)) for row in results.optimizers],
        "streams": [
            _clean({"split": s.split, "rows": part, "rule": rule, "batch": batch, "ratio": ratio})
            for s in results.streams
            for part, found in (("test", s.test), ("history", s.history))
            for (rule, batch), ratio in found.items()
        ],
        "robustness": None if results.robustness is None else _clean(asdict(results.robustness)),
    }


def _row(row: Played, models: Sequence[str]) -> dict[str, Any]:
    cleaned: dict[str, Any] = _clean(
        {
            "strategy": row.strategy,
            "predictor": row.predictor,
            "setting": {"name": row.setting.name, "value": row.setting.value},
            "split": row.split,
            "success": row.success,
            "promised_success": row.promised,
            "cost_per_call_usd": row.cost,
            "limit_violations": row.violations,
            "decision_s": row.decision_s,
            "share": dict(zip(models, map(float, row.share), strict=True)),
            "tasks": row.tasks,
        }
    )
    return cleaned


def _clean(value: Any) -> Any:
    """Six significant digits; null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def tables(results: Results, asked: Sequence[float]) -> list[Table]:
    """All tables; `asked` are the floors to show."""
    found = [floors_table(results.summary, asked), peers_table(results.summary)]
    if any(at.strategy == "batch_robust" for at in results.summary.at):
        found.insert(1, floors_table(results.summary, asked, "batch_robust"))
    if results.summary.headline is not None:
        found.append(headline_table(results.summary))
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
            (
                _asked(at),
                _percent(at.success),
                _percent(at.promised, plain=True),
                _percent(at.error, plain=True),
                _dollars(at.cost),
                "-" if seer is None else _dollars(seer.cost, plain=True),
                f"{at.worst_task} {at.worst.mean * 100:.1f}",
                f"{at.violations.mean:g}",
            )
        )
    heads = ("asked", "success %", "promised", "|error|", "$ / 1000", "seer", "worst task", "over")
    note = (
        "$ / 1000: dollars per 1,000 calls; seer: the least possible, true outcomes known; over: "
        "calls above a limit. A floor below the cheapest model's success is exceeded for free."
    )
    return Table(f"{strategy} ({ours}): asked and realised", heads, tuple(rows), note)


def peers_table(summary: Summary) -> Table:
    """Every strategy beside `eccos` at equal success."""
    order = sorted(summary.lines, key=_rank)
    rows = [
        (
            _name(line),
            "-" if line.points > 1 else _percent(line.success),
            "-" if line.points > 1 else _dollars(line.cost),
            _ratio(line.cost_ratio),
            line.verdict,
            _percent(line.gap_closed, plain=True),
            _percent(line.gain, plain=True),
            _percent(line.save, plain=True) + ("" if line.saved_on else " *"),
            f"{line.distance.mean:.3f}",
            f"{line.violations.mean:.3g}",
            f"{line.decision_s.mean * 1e6:.0f}",
        )
        for line in order
    ]
    heads = (
        "strategy", "success %", "$ / 1000", "eccos costs", "eccos is", "gap %", "gain %",
        "save %", "distance", "over", "us",
    )  # fmt: skip
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
    return Table("Strategies at equal success", heads, tuple(rows), note, wide)


def headline_table(summary: Summary) -> Table:
    """Beside AIOS's own threshold as shipped."""
    head = summary.headline
    assert head is not None
    rows = (
        ("points more at its cost", _percent(head.gain)),
        (f"points more at {HEADLINE_COST} x its cost (paper: +6.30)", _percent(head.gain_cheaper)),
        ("cost at its success, x its cost", _ratio(head.cost_ratio)),
        ("the same by mixing two single models", _ratio(head.hull_ratio)),
    )
    return Table("eccos beside AIOS's threshold at its shipped 0.7", ("", "eccos"), rows)


def optimizers_table(found: Sequence[OptimizerRow]) -> Table:
    """The paper's optimizer beside ours, on the same forecasts and floors."""
    rows = tuple(
        (
            row.limits,
            row.optimizer,
            _ratio(row.cost_ratio),
            f"{row.kept * 100:.0f} %",
            f"{row.worst_short * 100:.2f}",
            f"{row.over:.1f}",
            f"{row.milliseconds:.1f}",
        )
        for row in found
    )
    heads = ("limits", "optimizer", "cost", "floors kept", "worst short", "over", "ms")
    note = (
        "cost: beside the optimum's, where the floor was kept; worst short: points of forecast "
        "success below the floor; over: calls above a limit, mean; ms: per batch."
    )
    return Table("The paper's dual ascent and our optimizer", heads, rows, note)


def streams_table(found: Sequence[Streams]) -> Table:
    """Cost beside one batch where calls come a few at a time."""

    def mean(parts: Sequence[Mapping[tuple[str, int | None], float]], key: Any) -> str:
        return _ratio(estimate([part[key] for part in parts if key in part]))

    test, history = [s.test for s in found], [s.history for s in found]
    rows = tuple(
        (
            "all" if batch is None else f"{batch}",
            *(mean(part, (rule, batch)) for part in (test, history) for rule in ("price", "floor")),
        )
        for batch in (*BATCHES, None)
    )
    heads = ("batch", "at history's price", "floor per batch", "price (history)", "floor (history)")
    note = (
        "Cost beside the one-batch assignment of the same forecasts, at equal realised success, "
        "geometric mean over floors; no limits, no outcomes seen. history: half of it, priced on "
        "the other half."
    )
    return Table("Calls as they come", heads, rows, note)


def robustness_table(found: Robustness) -> Table:
    """How far picks move when only the wording does."""
    rows = [(name, f"{share * 100:.1f} %", "-") for name, share in found.unchanged.items()]
    rows.append(("20 adversarial prefixes, mean", "-", f"{found.added_mean * 100:+.1f} %"))
    rows.append((f"worst: {found.worst_prefix[:40]}", "-", f"{found.added_worst * 100:+.1f} %"))
    note = f"{found.rows} test calls at floor {found.floor:.2f}, predictor {found.predictor}."
    heads = ("change", "picks unchanged", "cost added")
    return Table("Robustness", heads, tuple(rows), note)


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
