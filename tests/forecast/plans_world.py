"""Past queries of a cheap pair and a dear model: equal answers are nearly all right."""

from __future__ import annotations

import numpy as np

from aios_eccos.forecast.plans import Past

MODELS = ("small", "mini", "large", "poor")
#: Dollars of a call.
COST = np.array([0.01, 0.02, 1.0, 0.01])
#: Chance of a right answer to an easy and to a hard query.
SKILL = np.array([[0.95, 0.3], [0.95, 0.3], [0.97, 0.85], [0.3, 0.1]])


def past_world(n: int = 600, seed: int = 0, *, keyed: bool = True, told: bool = True) -> Past:
    """N queries, half of them hard; `told`: forecasts know which, else they are the same for all.

    Right answers are equal, wrong ones are not.
    """
    rng = np.random.default_rng(seed)
    hard = (rng.uniform(size=n) < 0.5).astype(int)
    chance = SKILL[:, hard].T
    right = rng.uniform(size=chance.shape) < chance
    wrong = rng.integers(2, 1_000_000, size=chance.shape)
    success = chance if told else np.broadcast_to(SKILL.mean(axis=1), chance.shape)
    return Past(
        MODELS,
        success.astype(float),
        right.astype(float),
        np.broadcast_to(COST, chance.shape),
        np.where(right, 1, wrong) if keyed else np.zeros(chance.shape, dtype=np.int64),
    )
