"""Near-optimal prices of a large program: the Lagrange dual, smoothed and cooled.

The row minimum in the dual is replaced by a soft minimum of temperature T, which makes it twice
differentiable in its few unknowns (one price per linear row, one per limited column). Newton's
method takes two or three steps per temperature. The first temperatures are done on samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.whole.program import Prices, Program
from aios_eccos.values import BoolArray, FloatArray, IntArray

SAMPLES = (1_000, 10_000)
"""Rows of the samples; each is used where it is at most a third of what comes after it."""

COOLING = 0.25
FARTHEST = 1e4
"""Longest step, in temperatures: where little bends, Newton's own goes anywhere."""

REHEATS = 3
"""How often Newton may start again from warmer, where it did not arrive."""

FINE = 1e-6
"""Relative error of smoothing below which only ties can still be divided."""

NEWTON_STEPS = 12
LOOSE = 2e-4
"""Share of the rows by which limits and needs may be missed while it still cools."""

HIGHEST = 1e6
"""Highest price of a linear row in units of the largest objective; beyond it needs are taken
for out of reach."""

COARSE = 1e-3
"""The same for samples, which are no better than that anyway."""

SETTLED = 0.98
"""A row whose largest share is above this is settled."""


@dataclass(frozen=True)
class Soft:
    """The smoothed optimum.

    Attributes:
        prices: near the dual optimum.
        choice: (n,) column per row, in the proportions of the shares.
        value: of the smoothed dual.
        open: rows still divided between columns.
    """

    prices: Prices
    choice: IntArray
    value: float
    open: int


def anneal(
    program: Program,
    *,
    unsettled: int,
    ceiling: float = np.inf,
    start: tuple[Prices, float] | None = None,
) -> Soft:
    """Cools until at most `unsettled` rows are divided between columns (or only ties are).

    Args:
        ceiling: highest price of a linear row (what a unit of unmet need costs).
        start: prices and temperature to start from, instead of samples.
    """
    count = len(program.need)
    spread = program.objective[np.isfinite(program.objective)]
    heat = 0.1 * ceiling if ceiling < np.inf else 1e-6
    hottest = temperature = 0.3 * float(spread.std()) + heat
    prices = np.zeros(count + program.m)
    top = min(ceiling, HIGHEST * float(np.abs(spread).max()))
    if start is not None:
        prices, temperature = np.concatenate([start[0].rows, start[0].slots]), start[1]
    else:
        rng = np.random.default_rng(0)
        for size in [size for size in SAMPLES if 3 * size <= program.n]:
            rows = rng.choice(program.n, size, replace=False).astype(np.int64)
            dual = _Dual(_sample(program, rows), top)
            prices, _, temperature, _ = dual.cool(prices, temperature, size // 20, COARSE)
            if (prices[:count] > 1e3 * hottest).any():  # the sample is out of reach
                prices, temperature = np.zeros_like(prices), hottest
    fine = FINE if start is None else FINE * FINE
    prices, value, _, shares = _Dual(program, top).cool(prices, temperature, unsettled, fine)
    loose = int((shares.max(axis=0) < SETTLED).sum())
    return Soft(Prices(prices[:count], prices[count:]), dealt(shares), value, loose)


def dealt(shares: FloatArray) -> IntArray:
    """Whole rows whose column counts follow the shares (m, n): ties are dealt, not piled up."""
    most = shares.max(axis=0)
    choice: IntArray = np.argmax(shares, axis=0).astype(np.int64)
    loose = np.flatnonzero(most < 1 - 1e-3)
    loose = loose[np.lexsort((most[loose], choice[loose]))]
    draw = np.modf(0.5 + np.arange(len(loose)) * 0.6180339887498949)[0]
    dealt = np.minimum((np.cumsum(shares[:, loose], axis=0) < draw).sum(axis=0), len(shares) - 1)
    real = shares[dealt, loose] > 0
    choice[loose[real]] = dealt[real]
    return choice


def _sample(program: Program, rows: IntArray) -> Program:
    part = len(rows) / program.n
    return Program(
        objective=program.objective[rows],
        gains=program.gains[:, rows],
        need=program.need * part,
        capacity=np.asarray(program.capacity * part),  # fractions of slots do no harm here
    )


class _Dual:
    """The smoothed dual of one program. Arrays lie columns first: sums over columns are fast."""

    def __init__(self, program: Program, top: float) -> None:
        self.objective = np.ascontiguousarray(program.objective.T)
        self.gains = [np.ascontiguousarray(gain.T) for gain in program.gains]
        self.count = len(self.gains)
        self.right = np.concatenate([program.need, -program.capacity.astype(np.float64)])
        self.active: BoolArray = np.concatenate(
            [np.ones(self.count, dtype=bool), program.capacity < program.n]
        )
        self.top = np.concatenate([np.full(self.count, top), np.full(program.m, np.inf)])
        # what a unit of each price moves reduced costs by
        self.weight = np.ones(self.count + program.m)
        self.weight[: self.count] = [float(np.abs(gain).mean()) for gain in self.gains]
        self.n = program.n

    def cool(
        self, prices: FloatArray, temperature: float, unsettled: int, fine: float
    ) -> tuple[FloatArray, float, float, FloatArray]:
        """Newton at falling temperatures; (prices, dual value, last temperature, shares (m, n)).

        Stops when at most `unsettled` rows are divided, or when they may stay so: the smoothing
        then costs no more than `fine` of the objective.
        """
        exact = 0.05
        before, chances, first = prices, REHEATS, temperature
        while True:
            prices, value, shares, done = self.newton(
                prices, temperature, max(exact, LOOSE * self.n)
            )
            if not done and chances:  # too cold for the distance
                chances -= 1
                before, temperature = prices, min(temperature / COOLING**4, 4 * first)
                continue
            loose = int((shares.max(axis=0) < SETTLED).sum())
            smooth = temperature * self.n <= fine * abs(value) or temperature <= 1e-12 * first
            if loose <= unsettled or smooth:
                prices, value, shares, _ = self.newton(prices, temperature, exact)
                return prices, value, temperature, shares
            # near the end prices go linearly with the temperature
            ahead = prices + (prices - before) * COOLING if before is not prices else prices
            before, prices = prices, np.clip(ahead, 0.0, self.top)
            temperature *= COOLING

    def newton(
        self, prices: FloatArray, temperature: float, off: float
    ) -> tuple[FloatArray, float, FloatArray, bool]:
        """Maximizes over 0 <= price <= top; (prices, dual value, shares, whether it arrived).

        Args:
            off: rows by which the shares may miss a limit or a need.
        """
        value, slope, shares = self.value(prices, temperature)
        for _ in range(NEWTON_STEPS):
            free = self.active & ((prices > 0) | (slope > 0)) & ((prices < self.top) | (slope < 0))
            if not free.any() or np.abs(slope[free]).max() <= off:
                return prices, value, shares, True
            bend = self.curvature(shares, temperature)
            index, step = self.step(prices, slope, bend, free, temperature)
            farthest = float(np.abs(step * self.weight[index]).max())
            length, better = min(1.0, FARTHEST * temperature / (farthest + 1e-300)), False
            shortest = min(1e-3 * length, temperature / (farthest + 1e-300))
            while not better and length > shortest:
                trial = prices.copy()
                trial[index] = np.clip(prices[index] + length * step, 0.0, self.top[index])
                reached, new_slope, new_shares = self.value(trial, temperature)
                better = reached >= value + 1e-4 * slope[index] @ (trial - prices)[index]
                length *= 0.3
            if not better:
                break
            prices, value, slope, shares = trial, reached, new_slope, new_shares
        return prices, value, shares, False

    def step(
        self,
        prices: FloatArray,
        slope: FloatArray,
        bend: FloatArray,
        free: BoolArray,
        temperature: float,
    ) -> tuple[IntArray, FloatArray]:
        """Newton's step for the prices that it does not push out of their bounds.

        Where the dual is flat (the level of prices of slots that just suffice), the shortest one.
        Where it is straight (floors over the same rows), on to the next bound.
        """
        scale = np.sqrt(np.maximum(np.diag(bend), 1e-12 * np.diag(bend).max() + 1e-100))
        scaled = bend / scale / scale[:, None]
        index = np.flatnonzero(free)
        while True:
            part = scaled[np.ix_(index, index)] + 1e-12 * np.eye(len(index))
            rise = (slope / scale)[index]
            step = np.linalg.lstsq(part, rise, rcond=1e-9)[0]
            straight = rise - part @ step
            step /= scale[index]
            if np.abs(straight).max() > 1e-6 * np.abs(rise).max():
                step += self.reach(prices[index], straight / scale[index], index, temperature)
            out = ((prices[index] <= 0) & (step < 0)) | (
                (prices[index] >= self.top[index]) & (step > 0)
            )
            if not out.any() or out.all():
                return index, step
            index = index[~out]

    def reach(
        self, prices: FloatArray, direction: FloatArray, index: IntArray, temperature: float
    ) -> FloatArray:
        """As far along the direction as the first price that falls to 0 or rises to its top."""
        room = np.where(direction < 0, prices, self.top[index] - prices)
        longest = np.full(len(index), np.inf)
        np.divide(room, np.abs(direction), out=longest, where=direction != 0)
        length = float(longest[room > 0].min(initial=np.inf))
        return direction * min(length, 1e3 * temperature / float(np.abs(direction).max()))

    def value(self, prices: FloatArray, temperature: float) -> tuple[float, FloatArray, FloatArray]:
        """The smoothed dual, its gradient, and the shares (m, n) of each row."""
        reduced = self.objective + prices[self.count :, None]
        for price, gain in zip(prices, self.gains, strict=False):
            reduced -= price * gain
        least = reduced.min(axis=0)
        reduced -= least
        reduced *= -1 / temperature
        shares = np.exp(reduced, out=reduced)
        total = shares.sum(axis=0)
        shares /= total
        value = least.sum() - temperature * np.log(total).sum() + prices @ self.right
        used = [-_dot(shares, gain) for gain in self.gains]
        slope = self.right + np.concatenate([used, shares.sum(axis=1)])
        return float(value), slope, shares

    def curvature(self, shares: FloatArray, temperature: float) -> FloatArray:
        """Minus the Hessian: the summed covariance, over columns, of gains and slots taken."""
        count, size = self.count, self.count + len(shares)
        bend = np.empty((size, size))
        bend[count:, count:] = np.diag(shares.sum(axis=1)) - _product(shares, shares)
        weighted = [shares * gain for gain in self.gains]
        means = [gain.sum(axis=0) for gain in weighted]
        for k in range(count):
            mixed = _product(shares, means[k][None])[:, 0]
            bend[k, count:] = bend[count:, k] = mixed - weighted[k].sum(axis=1)
            for other in range(k + 1):
                both = _dot(weighted[k], self.gains[other])
                both -= _dot(means[k][None], means[other][None])
                bend[k, other] = bend[other, k] = both
        return bend / temperature


# BLAS would use threads for these sizes; on a busy machine those wait for each other and a product
# of 0.1 ms takes 10 ms. Pieces below its threshold, and einsum, stay on this thread.


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    """left @ right.T for few rows and many columns."""
    pieces = range(0, left.shape[1], 2_048)
    result: FloatArray = sum(
        (left[:, at : at + 2_048] @ right[:, at : at + 2_048].T for at in pieces),
        start=np.zeros((len(left), len(right))),
    )
    return result


def _dot(left: FloatArray, right: FloatArray) -> float:
    return float(np.einsum("ij,ij->", left, right))
