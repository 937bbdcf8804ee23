"""What faults are put into: kernels of the real AIOS on copies of its checkout, with a history."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.locate import state_dir_of
from aios_eccos.records import Outcome, Record
from integration.faults.ground import MODEL_S, PRICES, SLOTS, Ground, Row
from integration.faults.many import Case
from integration.kernel import Kernel, base_config, copy_aios, free_port, start_all, wait_ready
from integration.stubs import Stubs

#: Records with verdicts that the history begins with; how often each model is right.
RECORDS, RIGHT = 300, {"small": 0.6, "large": 0.9}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run works: a folder of its own, AIOS's and Cerebrum's checkouts, AIOS's Python."""

    folder: Path
    aios: Path
    cerebrum: Path
    python: str
    rows: list[Row] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    load: list[Case] = field(default_factory=list)
    soaked: list[Case] = field(default_factory=list)

    def tables(self) -> dict[str, list[Case]]:
        """The cases, by the section of the page."""
        return {"kernels": self.cases, "load": self.load, "soak": self.soaked}

    def kernel(
        self,
        name: str,
        stubs: Stubs,
        settings: dict[str, Any],
        state: Path,
        **options: Any,
    ) -> Kernel:
        """A kernel on a fresh copy of AIOS; all settings that are not named are the defaults."""
        router = {"strategy": "eccos", "eccos": settings}
        config = base_config(entries(stubs), free_port(), router)
        home = copy_aios(self.aios, self.folder / name)
        return Kernel(home, self.cerebrum, config, state=state, python=self.python, **options)


def entries(stubs: Stubs) -> list[dict[str, Any]]:
    """The model servers as entries of AIOS's configuration."""
    return [
        {
            "name": name,
            "backend": "vllm",
            "hostname": stubs.url(name),
            "concurrency": SLOTS[name],
            "input_cost_per_token": PRICES[name],
            "output_cost_per_token": PRICES[name],
        }
        for name in MODEL_S
    ]


def fill(history: str, state: Path) -> None:
    """Put records with verdicts into a history, so that every decision looks into it."""
    draw = random.Random(0)
    records = [
        Record(
            id=f"r{n}",
            text=f"what is {n} times {n % 7}?",
            input_tokens=10,
            outcomes=tuple(
                Outcome(model, float(draw.random() < RIGHT[model]), 20) for model in MODEL_S
            ),
        )
        for n in range(RECORDS)
    ]
    embedder = open_embedder()
    store = open_history(history, state, embedder)
    store.add(records, embedder.embed([record.text for record in records]))
    store.close()


def fill_embedded(kernel: Kernel, state: Path) -> Path:
    """Fill the embedded history of a kernel's checkout; its state folder."""
    os.environ["AIOS_ECCOS_STATE"] = str(state)
    folder = state_dir_of(kernel.home)
    fill("embedded", folder)
    return folder


@contextmanager
def serving(
    place: Place, kernels: Sequence[Kernel], stubs: Stubs, on: str, *, learned: bool = True
) -> Iterator[Ground]:
    """Kernels that run, as ground for faults; `learned`: wait until their history is open."""
    with contextlib.ExitStack() as ends:
        for kernel in kernels:
            ends.push(kernel)
        start_all(kernels)
        for kernel in kernels if learned else ():
            wait_ready(kernel)
        for kernel in kernels:
            for number in range(3):  # the first calls import what was not yet
                kernel.ask(f"warm {number}", llms=["small"])
        yield Ground(kernels, stubs, on, place.rows)
