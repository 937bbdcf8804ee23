"""Figures of calls from sums, as pure functions: means, rates with intervals, what is saved, and
what a total will come to. What operators watch and what `evaluate` reports is computed here alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

#: Two-sided 95 %.
Z = 1.959964
#: Observations below which no interval is given.
ENOUGH = 30


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; `low` and `high` are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    def moved(self, by: float) -> Interval:
        """That of a figure which is greater by so much."""
        if self.low is None or self.high is None:
            return Interval(self.value + by)
        return Interval(self.value + by, self.low + by, self.high + by)


def mean(total: float, count: float) -> float | None:
    """`total / count`, None for nothing."""
    return total / count if count > 0 else None


def mean_of(values: Sequence[float]) -> float | None:
    """The mean of the values, None for none."""
    return mean(math.fsum(values), len(values))


def percent(share: float | None) -> str:
    """`0.8123` as `81.2 %`; what is not known is a dash."""
    return "-" if share is None or math.isnan(share) else f"{share * 100:.1f} %"


def saved_share(spent: float, baseline: float) -> float | None:
    """Share of a baseline's cost that was not spent; None where the baseline cost nothing."""
    return 1.0 - spent / baseline if baseline > 0 else None


def success_rate(successes: float, count: float) -> Interval | None:
    """The mean of `count` outcomes in 0..1, by Wilson's score interval; None for no outcome.

    For outcomes between 0 and 1 the interval is wider than it need be, never too narrow.
    """
    if count <= 0:
        return None
    share = min(max(successes / count, 0.0), 1.0)
    shrink = 1 + Z * Z / count
    middle = (share + Z * Z / (2 * count)) / shrink
    half = Z / shrink * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    low, high = min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)
    return Interval(share, low, high)


@dataclass(frozen=True, slots=True)
class Errors:
    """Sums over calls of which both the forecast f and the actual a are known."""

    count: float
    f: float
    a: float
    ff: float
    af: float
    aa: float

    @property
    def ratio(self) -> float:
        """Actual by forecast."""
        return self.a / self.f if self.f > 0 else 1.0

    @property
    def residual(self) -> float:
        """Sum of (a - ratio f)^2."""
        r = self.ratio
        return max(self.aa - 2 * r * self.af + r * r * self.ff, 0.0)


def add_errors(parts: Sequence[Errors]) -> Errors:
    """The sums of all parts."""
    return Errors(*map(sum, zip(*map(astuple, parts), strict=True)))


def forecast_total(total: float, calls: float, own: Errors, others: Sequence[Errors]) -> Interval:
    """What forecasts that sum to `total` over `calls` calls will come to.

    They are scaled by how the model's actual figures stood to its forecasts. With fewer than
    `ENOUGH` answers of its own, by those of all models together, and the spread between models
    counts as error; without three models to see that spread, there is no interval.
    """
    if calls <= 0:
        return Interval(0.0, 0.0, 0.0)
    if own.count >= ENOUGH and own.f > 0:
        used, between = own, 0.0
    else:
        known = [part for part in others if part.count >= ENOUGH and part.f > 0]
        used = add_errors(known) if known else Errors(0, 0, 0, 0, 0, 0)
        if len(known) < 3:
            return Interval(total * used.ratio)
        between = sum((part.ratio - used.ratio) ** 2 for part in known) / (len(known) - 1)
    scale = used.residual / (used.f * used.f) + between
    noise = calls * used.residual / used.count
    half = Z * math.sqrt(total * total * scale + noise)
    value = total * used.ratio
    return Interval(value, max(value - half, 0.0), value + half)


def forecast_success(
    promised: float, variance: float, calls: float, judged: float, miss: float, miss2: float
) -> Interval | None:
    """Success of a model on `calls` calls from its forecasts, corrected by its verdicts.

    Args:
        promised, variance: sums of p and of p (1 - p) over the calls.
        judged: verdicts on its own answers.
        miss, miss2: sums of (outcome - p) and of its square over those.
    """
    if calls <= 0:
        return None
    value = promised / calls
    if judged < ENOUGH:
        return Interval(value)
    bias = miss / judged
    spread = max(miss2 / judged - bias * bias, 0.0) / judged + variance / (calls * calls)
    half, value = Z * math.sqrt(spread), min(max(value + bias, 0.0), 1.0)
    return Interval(value, max(value - half, 0.0), min(value + half, 1.0))
