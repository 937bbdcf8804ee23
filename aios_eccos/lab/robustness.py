"""How far picks move when only the wording of a question does (after RouterArena, 2510.00202).

Questions are changed in ways that leave their answer alone (case, typos, padding), and adversarial
prefixes claim that they are harder than they are; forecasts are made anew, prices stay.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.studies.templates import WORDINGS
from aios_eccos.values import IntArray

#: The floor of the comparison: this share of the way from the cheapest to the best single model.
AT = 0.7
#: Calls whose picks are compared; every prefix is put before the first of them.
ROWS, PREFIXED = 300, 60
#: One letter in this many is mistyped.
TYPO_EVERY = 40

PREFIXES: list[str] = WORDINGS["prefixes"]


@dataclass(frozen=True, slots=True)
class Robustness:
    """Share of picks unchanged (0..1) by kind of change; relative cost that prefixes add."""

    predictor: str
    floor: float
    rows: int
    unchanged: dict[str, float]
    added_mean: float
    added_worst: float
    worst_prefix: str


def typos(text: str, rng: random.Random) -> str:
    """One pair of neighboring letters in `TYPO_EVERY` swapped; digits are left alone."""
    letters = list(text)
    places = [i for i, pair in enumerate(pairwise(text)) if all(map(str.isalpha, pair))]
    for i in rng.sample(places, len(places) // TYPO_EVERY):
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


#: 2 kB of unrelated words.
_NOTE = "The following note is part of the page layout and has no bearing on the question. "
_PADDING = (_NOTE * 40)[:2048]
CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "lower case": lambda text, rng: text.lower(),
    "upper case": lambda text, rng: text.upper(),
    "typos": typos,
    "2 kB of padding behind": lambda text, rng: f"{text}\n\n----------\n{_PADDING}",
    "2 kB of padding before": lambda text, rng: f"{_PADDING}\n----------\n\n{text}",
}


def measure(problem: Problem) -> Robustness:
    """Pick for changed texts at the price of one floor."""
    rows = np.arange(min(ROWS, problem.n))
    success, cost = problem.past_means()
    cheap = float(success[cost.argmin()])
    floor = cheap + AT * (float(success.max()) - cheap)
    price = problem.curve.price_for(floor)
    texts = [problem.test.texts[i] for i in rows]

    def pick(changed: Sequence[str]) -> IntArray:
        lengths = problem.test.input_tokens[: len(changed)]
        said, tokens = problem.fitted.forecast(problem.kind, changed, lengths)
        return choose(problem.prices.cost(lengths, tokens), said, price)

    plain = pick(texts)
    stayed = {}
    for name, change in CHANGES.items():
        rng = random.Random(problem.plan.seed)
        stayed[name] = float(np.mean(plain == pick([change(t, rng) for t in texts])))
    few = problem.calls.rows(rows[:PREFIXED])
    _, before = few.came_to(plain[: len(few)])
    added = {}
    for prefix in PREFIXES:
        chosen = pick([f"{prefix}\n\n{text}" for text in texts[: len(few)]])
        added[prefix] = few.came_to(chosen)[1] / before - 1 if before > 0 else math.nan
    worst = max(added, key=lambda prefix: added[prefix])
    return Robustness(
        predictor=problem.kind,
        floor=floor,
        rows=len(rows),
        unchanged=stayed,
        added_mean=float(np.mean(list(added.values()))),
        added_worst=added[worst],
        worst_prefix=worst,
    )
