"""What carried slot prices save where limits bind for long: recorded answers, simulated arrivals.

Rows arrive one at a time (Poisson) and hold a slot as long as their answer takes; all models have
as many slots, so the cheap good ones are full for long. The plugin's own code assigns, with prices
learned as it goes and without, compared at equal realised success over prices of success. The
bound is the LP over all slot-seconds at once: no policy for one call at a time reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide.assign import assigned
from aios_eccos.decide.rule import net_cost
from aios_eccos.decide.slot_prices import SlotPrices
from aios_eccos.lab.metrics import Frontier, ratio
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.queueing import queue
from aios_eccos.lab.strategy import price_sweep
from aios_eccos.values import Candidate, FloatArray, IntArray, Model, Price, Query
from aios_eccos.workload.memory import MemoryWorkload

#: Slots of each model, seconds per output token, and calls per run (the first sixth not counted).
SLOTS, PACE_S, CALLS, WARM = 8, 0.02, 3_000, 500
#: Share of all slot-seconds that calls would take if models were drawn at random.
UTILIZATIONS = (0.3, 0.6, 0.75, 0.9)
#: Prices of success per curve, successes at which curves are compared, orders of arrival.
PRICES, COMPARED, SEEDS = 9, 9, 2


@dataclass(frozen=True, slots=True)
class ScarceRow:
    """One utilization on one split; `n` calls per run.

    `value` is cost with carried prices / cost without, at equal realised success (geometric mean),
    `peer_value` the same of the one-batch LP; `wait_*_s` are means per call over prices of success.
    """

    name: str
    kind: str
    n: int
    value: float
    unit: str
    peer: str
    peer_value: float
    wait_s: float
    wait_without_s: float
    split: int


class _Unlearned(SlotPrices):
    def note_losses(self, lost: FloatArray, usual: float) -> None:
        pass


def scarce_rows(problem: Problem, split: int) -> list[ScarceRow]:
    sweep = price_sweep(problem)
    prices = np.geomspace(sweep[len(sweep) // 4], sweep[-len(sweep) // 4], PRICES)
    rows = []
    for share in UTILIZATIONS:
        rate = share * SLOTS * problem.m / float(problem.test.output_tokens.mean() * PACE_S)
        fronts, waits = {}, {}
        for rule in (SlotPrices, _Unlearned):
            runs = [
                np.mean([run(problem, p, rate, rule, s) for s in range(SEEDS)], axis=0)
                for p in prices
            ]
            success, cost, wait = np.array(runs).T
            fronts[rule], waits[rule] = Frontier.of(cost, success), float(wait.mean())
        success, cost = np.array([_one_batch(problem, price, rate) for price in prices]).T
        plain = fronts[_Unlearned]
        rows.append(
            ScarceRow(
                name="scarcity",
                kind=f"{share:.0%} busy",
                n=CALLS,
                value=_ratio(fronts[SlotPrices], plain),
                unit="cost ratio",
                peer="one-batch LP",
                peer_value=_ratio(Frontier.of(cost, success), plain),
                wait_s=waits[SlotPrices],
                wait_without_s=waits[_Unlearned],
                split=split,
            )
        )
    return rows


def run(
    problem: Problem, price: float, rate: float, rule: type[SlotPrices], seed: int
) -> tuple[float, float, float]:
    """Realised success, cost and wait (seconds), means per call, at a price of success."""
    rng = np.random.default_rng([problem.arrival.seed, seed])
    turns = -(-CALLS // problem.n)
    rows = np.concatenate([rng.permutation(problem.n) for _ in range(turns)])[:CALLS]
    arrival = np.cumsum(rng.exponential(1 / rate, CALLS))
    models = [Model(name, limit=SLOTS) for name in problem.models]
    shared, settings = rule(models, MemoryWorkload()), Settings()

    def decide(i: int, free: IntArray) -> int:
        row = rows[i]
        call = Candidate(
            query=Query(""),
            models=problem.models,
            success=problem.success[row],
            output_tokens=problem.tokens[row],
            support=np.zeros(problem.m),
            cost=problem.cost[row],
            allowed=np.ones(problem.m, dtype=bool),
            novelty=0.0,
            worth=Price(value=price),
        )
        found = assigned([call], free, settings, shared)
        if found.lost is not None:
            shared.note_losses(found.lost, found.usual)
        return int(found.solution.choice[0])

    held = problem.test.output_tokens[rows] * PACE_S
    choice, start = queue(arrival, held, np.full(problem.m, SLOTS), decide)
    row, column = rows[WARM:], choice[WARM:]
    return *problem.calls.rows(row).came_to(column), float((start - arrival)[WARM:].mean())


def _one_batch(problem: Problem, price: float, rate: float) -> tuple[float, float]:
    """Realised success and cost of the LP over slot-seconds, rows divided as it says."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    n, m = problem.cost.shape
    value = net_cost(problem.cost, problem.success, price)
    unit = float(np.abs(value).mean())
    index: IntArray = np.arange(n * m)
    seconds = csr_array(((problem.tokens * PACE_S).ravel(), (index % m, index)), shape=(m, n * m))
    once = csr_array((np.ones(n * m), (index // m, index)), shape=(n, n * m))
    answer = linprog(
        value.ravel() / unit,
        A_ub=seconds,
        b_ub=np.full(m, SLOTS * n / rate),
        A_eq=once,
        b_eq=np.ones(n),
        method="highs",
    )
    shares = answer.x.reshape(n, m)
    return float((shares * problem.outcomes).sum() / n), float((shares * problem.spent).sum() / n)


def _ratio(front: Frontier, plain: Frontier) -> float:
    """Geometric mean of the cost ratio over the successes that both reach."""
    low = max(front.success[0], plain.success[0])
    high = min(front.success[-1], plain.success[-1])
    if high <= low:
        return float("nan")
    at = np.linspace(low, high, COMPARED + 2)[1:-1]
    return ratio([front.cost_at(s) for s in at], [plain.cost_at(s) for s in at])
