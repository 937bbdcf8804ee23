"""Agents that ask a kernel recorded questions, and what each call was decided, cost and worth."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from aios_eccos.records import Record

from .kernel import HttpStatus, Kernel, within

#: Agents that ask side by side; each waits for its answer before it asks again.
AGENTS = 4


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it is seen from outside.

    Attributes:
        said: the answer; None if the call was lost.
        decision: as `/eccos/decisions` shows it; empty if it shows none.
    """

    text: str
    said: str | None
    decision: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.decision.get("model", ""))


def stream(
    kernel: Kernel,
    texts: Sequence[str],
    each: Callable[[Call], None],
    agents: int = AGENTS,
    pause_s: float = 0.0,
) -> None:
    """Ask all texts; `each` gets every call when it is settled, one at a time.

    Args:
        pause_s: for which an agent works on before it asks again.
    """
    waiting, lock, turn = list(reversed(texts)), threading.Lock(), threading.Lock()

    def agent(name: str) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                text = waiting.pop()
            call = _asked(kernel, text, name, agents)
            with turn:
                each(call)
            time.sleep(pause_s)

    with ThreadPoolExecutor(agents) as pool:
        for done in [pool.submit(agent, f"agent{number}") for number in range(agents)]:
            done.result()


def _asked(kernel: Kernel, text: str, agent: str, agents: int) -> Call:
    since = time.time()
    try:
        response = kernel.ask(text, agent=agent)
    except (OSError, HttpStatus):
        return Call(text, None, {})
    found: list[dict[str, Any]] = []

    def decided() -> bool:
        # Decisions are kept in batches, after the answer.
        last = kernel.get(f"/eccos/decisions?n={4 * agents}")["decisions"]
        found[:] = [each for each in last if each["agent"] == agent and each["at"] >= since]
        return bool(found)

    within(5.0, decided)
    said = None if response.get("error") else response.get("response_message")
    return Call(text, said, found[0] if found else {})


@dataclass(frozen=True, slots=True)
class Worth:
    """What recorded answers are worth and cost.

    Attributes:
        records: by text. prices: dollars per token, input and output, by model.
    """

    records: Mapping[str, Record]
    prices: Mapping[str, tuple[float, float]]

    def success(self, text: str, model: str) -> float:
        """Correctness, 0..1."""
        return self._outcome(text, model).correctness or 0.0

    def cost(self, text: str, model: str) -> float:
        """Dollars."""
        price, tokens = self.prices[model], self._outcome(text, model).output_tokens or 0
        return self.records[text].input_tokens * price[0] + tokens * price[1]

    def _outcome(self, text: str, model: str) -> Any:
        return next(o for o in self.records[text].outcomes if o.model == model)


def strongest_of(records: Sequence[Record]) -> str:
    """The model that answers most of the records right; each has all models."""
    right: Counter[str] = Counter()
    for record in records:
        for outcome in record.outcomes:
            right[outcome.model] += int(10_000 * (outcome.correctness or 0.0))
    return right.most_common(1)[0][0]


def worse(records: Sequence[Record], model: str, points: float = 0.3) -> list[Record]:
    """The records with so many right answers of a model made wrong that it loses the points."""
    right = [r.id for r in records for o in r.outcomes if o.model == model and o.correctness]
    count = min(len(right), round(points * len(records)))
    lost = set(random.Random(0).sample(right, count))

    def spoiled(record: Record) -> Record:
        outcomes = tuple(
            replace(o, correctness=0.0, prediction=None) if o.model == model else o
            for o in record.outcomes
        )
        return replace(record, outcomes=outcomes)

    return [spoiled(record) if record.id in lost else record for record in records]
