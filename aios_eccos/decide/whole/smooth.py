"""Near-optimal prices of a large program: the Lagrange dual, smoothed and cooled.

The row minimum in the dual is replaced by a soft minimum of temperature T, which makes it
differentiable in its few unknowns (one price per linear row, one per limited column), and
L-BFGS-B maximizes it while T falls. The first temperatures are done on samples.
"""

from __future__ import annotations

import numpy as np

from aios_eccos.decide.whole.program import Program
from aios_eccos.values import FloatArray, IntArray

SAMPLES = (1_000, 10_000)
"""Rows of the samples; each is used where it is at most a third of what comes after it."""

COOLING = 0.25
FINE = 1e-6
"""Relative error of smoothing below which only ties can still be divided."""

COARSE = 1e-3
"""The same for samples, which are no better than that anyway."""

STEPS = 60
"""Most steps per temperature."""

LOOSE = 2e-4
"""Share of the rows by which limits and needs may be missed while it cools."""

HIGHEST = 1e6
"""Highest price of a linear row in units of the largest objective; beyond it needs are taken
for out of reach."""

SETTLED = 0.98
"""A row whose largest share is above this is settled."""


def anneal(
    program: Program, unsettled: int, ceiling: float = np.inf
) -> tuple[FloatArray, IntArray]:
    """Near-optimal prices (K + m,), and a column (n,) per row in the proportions of the shares.

    Cools until at most `unsettled` rows are divided between columns (or only ties are). A unit of
    unmet need costs `ceiling`.
    """
    count = len(program.need)
    spread = program.objective[np.isfinite(program.objective)]
    heat = 0.1 * ceiling if ceiling < np.inf else 1e-6
    hottest = temperature = 0.3 * float(spread.std()) + heat
    top = min(ceiling, HIGHEST * float(np.abs(spread).max()))
    prices = np.zeros(count + program.m)
    rng = np.random.default_rng(0)
    for size in [size for size in SAMPLES if 3 * size <= program.n]:
        dual = _Dual(_sample(program, rng.choice(program.n, size, replace=False)), top)
        prices, temperature, _ = dual.cool(prices, temperature, size // 20, COARSE)
        if (prices[:count] > 1e3 * hottest).any():  # the sample is out of reach
            prices, temperature = np.zeros_like(prices), hottest
    prices, _, shares = _Dual(program, top).cool(prices, temperature, unsettled, FINE)
    return prices, dealt(shares)


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
        self.count, self.n = len(self.gains), program.n
        self.right = program.right
        self.top = np.append(
            np.full(self.count, top), np.where(program.capacity < program.n, np.inf, 0.0)
        )
        # what a unit of each price moves reduced costs by
        self.weight = np.append([np.abs(gain).mean() for gain in self.gains], np.ones(program.m))
        self.weight[self.weight == 0] = 1.0

    def cool(
        self, prices: FloatArray, temperature: float, unsettled: int, fine: float
    ) -> tuple[FloatArray, float, FloatArray]:
        """Maximizes at falling temperatures; (prices, last temperature, shares (m, n)).

        Stops when at most `unsettled` rows are divided, or when they may stay so: the smoothing
        then costs no more than `fine` of the objective.
        """
        before, first = prices, temperature
        while True:
            prices = self.best(prices, temperature, max(0.05, LOOSE * self.n))
            value, _, shares = self.value(prices, temperature)
            divided = int((shares.max(axis=0) < SETTLED).sum())
            smooth = temperature * self.n <= fine * abs(value) or temperature <= 1e-12 * first
            if divided <= unsettled or smooth:
                return prices, temperature, shares
            # near the end prices go linearly with the temperature
            ahead = prices + (prices - before) * COOLING if before is not prices else prices
            before, prices = prices, np.clip(ahead, 0.0, self.top)
            temperature *= COOLING

    def best(self, prices: FloatArray, temperature: float, off: float) -> FloatArray:
        """The maximum over 0 <= price <= top; its shares miss limits and needs by `off` rows."""
        from scipy.optimize import minimize

        unit = self.n * temperature

        def downward(scaled: FloatArray) -> tuple[float, FloatArray]:
            value, slope, _ = self.value(scaled / self.weight, temperature)
            return -value / unit, -slope / self.weight / unit

        found = minimize(
            downward,
            prices * self.weight,
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([np.zeros_like(self.top), self.top * self.weight], axis=1),
            options={"gtol": off / unit, "ftol": 0.0, "maxiter": STEPS},
        )
        return np.asarray(found.x / self.weight)

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
        # BLAS would use threads, which wait for each other on a busy machine
        used = [-np.einsum("ij,ij->", shares, gain) for gain in self.gains]
        slope = self.right + np.append(used, shares.sum(axis=1))
        return float(value), slope, shares
