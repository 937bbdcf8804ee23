"""Replaying recorded answers: what a strategy may know, what it chose, and what became of it.

A strategy sees the history and forecasts of the test rows; outcomes of test rows reach it only
after its choice (`reveal`), except for those that say that they are clairvoyant. No model is asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aios_eccos.errors import DataError
from aios_eccos.floor.curve import MIN_VERDICTS, PriceBook
from aios_eccos.forecast.pricing import Prices, price_table
from aios_eccos.history.mirror import build_table
from aios_eccos.lab.fitted import Cache, Kind, Known, Unseen, unseen
from aios_eccos.lab.problem import Problem, Setting, Strategy
from aios_eccos.lab.splits import split_labels
from aios_eccos.records import HistoryTable, Record
from aios_eccos.values import FloatArray, IntArray, Model


class Embeds(Protocol):
    """As much of an embedder as replays use."""

    @property
    def name(self) -> str:
        """Which embedder made the vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) unit rows."""
        ...

    def embed_with_layers(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same with (n, 4 d) hidden layers."""
        ...


@dataclass(frozen=True, slots=True)
class Played:
    """One strategy at one setting on one split: a row of the report.

    Attributes:
        success, cost: means per call (fraction; dollars).
        violations: rows above a model's limit, summed over batches.
        decision_s: seconds per row, forecasts not included.
        share: (m,) of the rows.
        tasks: mean success by task.
    """

    strategy: str
    predictor: str | None
    setting: Setting
    split: int
    success: float
    promised: float
    cost: float
    violations: int
    decision_s: float
    share: FloatArray
    tasks: dict[str, float]


def play(strategy: Strategy, problem: Problem, setting: Setting, split: int) -> Played:
    """Let a strategy choose and look up what became of it."""
    begun = time.perf_counter()
    picked = strategy.choose(problem, setting)
    seconds = time.perf_counter() - begun
    shares = np.zeros((problem.n, problem.m))
    if picked.mix is not None:
        shares[:] = picked.mix
    else:
        shares[np.arange(problem.n), picked.choice] = 1.0
    got = (shares * problem.outcomes).sum(axis=1)
    tasks = np.array(problem.test.tasks)
    return Played(
        strategy=strategy.name,
        predictor=problem.predictor if strategy.forecasts else None,
        setting=setting,
        split=split,
        success=float(got.mean()),
        promised=picked.promised,
        cost=float((shares * problem.spent).sum(axis=1).mean()),
        violations=violations(problem, shares, picked.rounds),
        decision_s=seconds / problem.n,
        share=shares.mean(axis=0),
        tasks={str(task): float(got[tasks == task].mean()) for task in np.unique(tasks)},
    )


def violations(problem: Problem, shares: FloatArray, rounds: IntArray | None) -> int:
    """Rows above a model's limit, summed over models and batches."""
    if problem.limits is None:
        return 0
    if rounds is None:
        rounds = np.arange(problem.n) // problem.batch
    over = 0.0
    for number in np.unique(rounds):
        used = shares[rounds == number].sum(axis=0)
        over += float(np.maximum(used - problem.limits, 0).sum())
    return int(np.ceil(over - 1e-9))


@dataclass(frozen=True, slots=True)
class Plan:
    """How to replay: `order` is shuffled, or recorded (task after task)."""

    limits: dict[str, int]
    batch: int | None = None
    stream: bool = False
    order: str = "shuffled"
    seed: int = 0


def problem_of(
    records: Sequence[Record],
    models: Sequence[Model],
    embedder: Embeds,
    plan: Plan,
    *,
    split: int,
    kind: Kind,
    data_hash: str,
    folder: Path | None,
) -> Problem:
    """Split the records, forecast the test rows, price success on the rest.

    Test rows without every model's outcome and length are left out: what was not recorded cannot
    be replayed.

    Raises:
        DataError: no test rows, or too little history to price success.
    """
    known, test = divided(records, embedder, plan, split)
    cache = Cache(folder, f"{data_hash}:{split}:{plan.seed}:{embedder.name}")
    prices = price_table(models).select(known.table.models)
    ordered = {model.name: model for model in models}
    pool = [ordered[name] for name in known.table.models]
    # The cache holds rows in the file's order, whatever the order of arrival is.
    told = unseen(kind, known, test, pool, embedder.name, cache)
    problem = _assemble(known.table, test.table, told, prices, plan, kind, cache)
    return arranged(problem, plan)


def _assemble(
    history: HistoryTable,
    test: HistoryTable,
    told: Unseen,
    prices: Prices,
    plan: Plan,
    kind: str,
    cache: Cache,
) -> Problem:
    past_cost = prices.cost(told.past_input, told.past_tokens)
    curve = PriceBook(history.models, told.past_success, told.past_correctness, past_cost).curve()
    if curve is None:
        raise DataError(f"history has too few judged rows; pricing success takes {MIN_VERDICTS}")
    batch = plan.batch or (1 if plan.stream else len(test))
    limits = None
    if plan.limits:
        limits = np.array([plan.limits.get(name, len(test)) for name in history.models])
        if not limits.any():
            raise DataError("every model's limit is 0: nothing can be served")
    return Problem(
        models=history.models,
        prices=prices,
        history=history,
        past_cost=prices.cost(history.input_tokens, history.output_tokens),
        test=test,
        success=told.success,
        tokens=told.tokens,
        cost=prices.cost(test.input_tokens, told.tokens),
        spent=prices.cost(test.input_tokens, test.output_tokens),
        curve=curve,
        past_success=told.past_success,
        past_forecast_cost=past_cost,
        past_outcomes=told.past_correctness,
        limits=limits,
        batch=batch,
        stream=plan.stream,
        seed=plan.seed,
        predictor=kind,
        cache=cache,
    )


def divided(
    records: Sequence[Record], embedder: Embeds, plan: Plan, split: int
) -> tuple[Known, Known]:
    """History (train and val) and test rows of a split, with the same columns."""
    labels = split_labels(
        [record.id for record in records],
        [record.task for record in records],
        [record.text for record in records],
        [record.split for record in records],
        number=split,
        seed=plan.seed,
    )
    table = build_table(records, embedder.embed([record.text for record in records]))
    whole = ~(np.isnan(table.correctness) | np.isnan(table.output_tokens)).any(axis=1)
    is_test = np.array([label == "test" for label in labels])
    if not (is_test & whole).any():
        raise DataError(
            f"split {split} has no test rows with every model's outcome and length: name a split "
            "in the file, use --resplits, or leave out models that answered few questions"
        )

    def part(mask: NDArray[np.bool_]) -> Known:
        rows = np.flatnonzero(mask)
        chosen = [records[int(i)] for i in rows]
        texts = [record.text for record in chosen]
        return Known(chosen, table.rows(rows), lambda: embedder.embed_with_layers(texts)[1])

    return part(~is_test), part(is_test & whole)


def arranged(problem: Problem, plan: Plan) -> Problem:
    """The test rows in their order of arrival: shuffled, or task after task as recorded."""
    if plan.order == "recorded":
        first = {task: i for i, task in reversed([*enumerate(problem.test.tasks)])}
        order = np.argsort([first[task] for task in problem.test.tasks], kind="stable")
    else:
        order = np.random.default_rng(plan.seed).permutation(problem.n)
    return replace(
        problem,
        test=problem.test.rows(order),
        success=problem.success[order],
        tokens=problem.tokens[order],
        cost=problem.cost[order],
        spent=problem.spent[order],
    )
