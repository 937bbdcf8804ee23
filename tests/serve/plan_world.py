"""A pool with one plan, whose forecasts are fixed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aios_eccos.config import parse_settings
from aios_eccos.floor.curve import PriceBook
from aios_eccos.floor.learned import Learned
from aios_eccos.serve.router import Router
from aios_eccos.values import Forecast, Model, Plan, PlanForecast
from aios_eccos.workload.memory import MemoryWorkload

SMALL = Model("small", input_price=1e-7, output_price=1e-7, limit=4)
MINI = Model("mini", input_price=2e-7, output_price=2e-7, limit=4)
LARGE = Model("large", input_price=1e-5, output_price=1e-5, limit=4)
POOL = (SMALL, MINI, LARGE)
PLAN = Plan(("small", "mini"), "large")


@dataclass
class Fixed:
    """Forecasts the same for every query, as often as it is asked to."""

    success: dict[str, float] = field(
        default_factory=lambda: {"small": 0.6, "mini": 0.62, "large": 0.9}
    )
    wants_layers = False

    def forecast(self, queries, embeddings, models, layers=None):
        n = len(queries)
        row = [self.success[model.name] for model in models]
        tokens = np.full((n, len(models)), 100.0)
        return Forecast(
            tuple(m.name for m in models),
            np.tile(row, (n, 1)),
            tokens,
            np.full(tokens.shape, 50.0),
            np.zeros(n),
        )


@dataclass
class FixedPlans:
    """Forecasts its plans the same for every query."""

    plans: tuple[Plan, ...] = (PLAN,)
    success: float = 0.92
    escapes: float = 0.2

    def forecast(self, queries, single, embeddings):
        shape = len(queries), len(self.plans)
        return PlanForecast(
            self.plans,
            np.full(shape, self.success),
            np.full(shape, self.escapes),
            np.full(shape, 40.0),
        )


def book(plans=(PLAN,), records=400, seed=0):
    """A history on which plans succeed as often as the large model, at a fraction of its cost."""
    rng = np.random.default_rng(seed)
    names = ("small", "mini", "large", *(plan.name for plan in plans))
    chance = np.array([0.6, 0.62, 0.9, *[0.92] * len(plans)])
    success = np.tile(chance, (records, 1)) + rng.normal(0, 0.02, (records, len(names)))
    outcomes = (rng.uniform(size=success.shape) < chance).astype(float)
    cost = np.tile([2e-5, 4e-5, 2e-3, *[4.6e-4] * len(plans)], (records, 1))
    return PriceBook(names[:3], np.clip(success, 0, 1), outcomes, cost, names[3:])


def learned(plans=None, priced=True):
    """What is known: the plan pays, if the forecast of plans says so."""
    known = FixedPlans() if plans is None else plans
    return Learned(Fixed(), None, book(known.plans) if priced else None, None, plans=known)


def make_router(workload=None, models=POOL, knows=None, **settings):
    parsed = parse_settings({"quality_floor": 0.88} | settings)
    return Router(models, parsed, workload or MemoryWorkload(), knows or learned())
