"""How good forecasts are, how expected floors hold on them, and what peers pay for as much."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.lab.baselines import STRATEGIES
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.metrics import (
    Frontier,
    auc,
    brier,
    calibration_error,
    estimate,
    hull_cost,
    ratio,
    ratio_over_splits,
)
from aios_eccos.lab.problem import Problem, column_means
from aios_eccos.lab.served import expected
from aios_eccos.lab.strategy import play

#: Peers whose cost is compared at equal success, beside the hull of single models.
PEERS = ("utility_knn", "neighbour_threshold")
#: Draws of an exactly calibrated forecaster's errors.
DRAWS = 4000


def quality(problem: Problem) -> dict[str, float]:
    """Brier, AUC, calibration and length errors on the test rows (means over models)."""
    p, y = problem.success, problem.outcomes
    error = np.abs(problem.cost - problem.spent)
    length = np.abs(problem.tokens - problem.test.output_tokens)
    return {
        "brier": brier(p, y),
        "auc": mean_auc(p, y),
        "calibration_error": calibration_error(p.ravel(), y.ravel()),
        "length_mae_tokens": float(length.mean()),
        "cost_mae_relative": float(np.mean(error.mean(axis=0) / problem.spent.mean(axis=0))),
        "spend_bias": float(problem.cost.sum() / problem.spent.sum() - 1),
    }


def mean_auc(p: Any, y: Any) -> float:
    """AUC of (n, m) forecasts of (n, m) outcomes, mean over models."""
    return float(np.nanmean([auc(p[:, j], y[:, j]) for j in range(p.shape[1])]))


def floor_rows(problem: Problem, floors: Sequence[float]) -> list[dict[str, float]]:
    """Each floor served as expected: asked, realised, promised, cost."""
    rows = []
    for floor in floors:
        price = expected(problem, floor)
        choice = problem.calls.choose(price.value)
        realised, cost = problem.calls.came_to(choice)
        promised = problem.hoped(choice) - price.optimism
        row = {"asked": floor, "realised": realised, "promised": promised}
        rows.append(row | {"cost_per_call_usd": cost})
    return rows


def floor_errors(problem: Problem, floors: Sequence[float]) -> np.ndarray[Any, Any]:
    """(k,) realised less asked success of each floor."""
    return np.array([row["realised"] - row["asked"] for row in floor_rows(problem, floors)])


def sampling_sd(problem: Problem, floor: float) -> float:
    """sd of an exactly calibrated forecaster's error: test rows and history both are samples."""
    choice = problem.calls.choose(expected(problem, floor).value)
    p = problem.success[np.arange(problem.n), choice]
    return float(np.sqrt((p * (1 - p)).mean() * (1 / problem.n + 1 / len(problem.history))))


def ease(problem: Problem) -> float:
    """By how much easier the test rows are than the history: mean success of all models."""
    return float(problem.outcomes.mean() - column_means(problem.history.correctness).mean())


def held(errors: Any, sd: Any, eases: Any, seed: int) -> dict[str, float]:
    """How expected floors hold, against an exactly calibrated forecaster.

    The latter's errors are drawn in the same run from normal distributions of the stated sd.
    Most of a split's error is the luck of its draw: test rows harder or easier than the history
    for every model alike. `bias_at_equal_ease` is the bias without that, so far more exact.

    Args:
        errors: (splits, floors) realised less asked success. sd: of the same shape.
        eases: (splits,) as `ease` gives them.
    """
    drawn = np.random.default_rng(seed).normal(size=(DRAWS, *sd.shape)) * sd
    luckless = estimate(errors.mean(axis=1) - eases)
    bias = estimate(errors.mean(axis=1))
    return {
        "bias": bias.mean,
        "bias_standard_error": bias.error if bias.count > 1 else 0.0,
        "bias_at_equal_ease": luckless.mean,
        "bias_at_equal_ease_standard_error": luckless.error if luckless.count > 1 else 0.0,
        "mean_abs_error": float(np.abs(errors).mean()),
        "calibrated_mean_abs_error": float(np.abs(drawn).mean()),
        "worst": float(errors.min()),
        "worst_in_sd": float((errors / sd).min()),
        "mean_sd": float(sd.mean()),
    }


def peer_costs(problem: Problem, targets: Sequence[float]) -> dict[str, list[float]]:
    """Cost at each target success of `eccos`, of peers, and of mixing single models."""
    found = {}
    for strategy in STRATEGIES:
        if strategy.name in ("eccos", *PEERS):
            rows = [play(strategy, problem, s, 0) for s in strategy.settings(problem, [])]
            front = Frontier.of([row.cost for row in rows], [row.success for row in rows])
            found[strategy.name] = [front.cost_at(target) for target in targets]
    cost, success = problem.spent.mean(axis=0), problem.outcomes.mean(axis=0)
    found["hull"] = [hull_cost(cost, success, target) for target in targets]
    return found


def ratios(costs: Sequence[dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Our cost over each peer's at equal success: geometric means, paired by split and target."""
    rows = []
    for peer in (*PEERS, "hull") if costs else ():
        pairs = [(split["eccos"], split[peer]) for split in costs]
        found = ratio_over_splits([ratio(*pair) for pair in pairs])
        rows.append(
            {
                "peer": peer,
                "ratio": found.mean if found.count else None,
                "standard_error": found.mean * found.error if found.count > 1 else 0.0,
                "compared": sum(int(np.isfinite(np.add(*pair)).sum()) for pair in pairs),
                "of": sum(len(ours) for ours, _ in pairs),
            }
        )
    return rows


def default_floors(data: Recorded, count: int = 5) -> list[float]:
    """Floors between the cheapest and the strongest model's success, ends left out."""
    means, cost = column_means(data.table.correctness), column_means(data.spent)
    low, high = float(means[int(np.argmin(cost))]), float(means.max())
    steps = np.linspace(0, 1, count + 2)[1:-1]
    return [float(np.floor(1000 * (low + step * (high - low))) / 1000) for step in steps]


#: How questions are worded in measurements, as data.
WORDINGS = yaml.safe_load((Path(__file__).parents[2] / "data" / "wordings.yaml").read_text("utf-8"))
TEMPLATES: dict[str, str] = WORDINGS["templates"]


def templates(problem: Problem, number: int) -> list[dict[str, Any]]:
    """AUC and Brier on test questions as three agents would wrap them, against bare ones.

    Each agent's calls come one by one, so its first ones are forecast with the template on.
    """
    bare = [*problem.test.texts]
    texts = {("bare", "as sent"): bare}
    for name, template in TEMPLATES.items():
        cleaner = TemplateFilter()
        wrapped = [_wrapped(template, text, i) for i, text in enumerate(bare)]
        texts[name, "as sent"] = wrapped
        texts[name, "filtered"] = [cleaner.question(name, text) for text in wrapped]
    rows: list[dict[str, Any]] = []
    for (name, way), said in texts.items():
        success, _ = problem.fitted.forecast(problem.kind, said, problem.test.input_tokens)
        found = mean_auc(success, problem.outcomes)
        loss = rows[0]["auc"] - found if rows else 0.0
        row = {"split": number, "template": name, "text": way, "auc": found}
        rows.append(row | {"brier": brier(success, problem.outcomes), "auc_loss": loss})
    return rows


def _wrapped(template: str, text: str, number: int) -> str:
    """A question in an agent's template; numbers in it change from call to call."""
    digits = [_digits(number + k) for k in range(3)]
    clock = f"{digits[0][:2]}:{digits[0][2:4]}"
    return template.format(text=text, digits=digits, clock=clock, step=number % 7 + 1)


def _digits(number: int) -> str:
    return str(int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16) % 900_000 + 100_000)
