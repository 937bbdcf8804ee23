"""A lone call that names no model, with ten thousand records of history behind the real kernel."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.lab.dataset import load_dataset, load_prices
from aios_eccos.locate import cache_dir, state_dir_of
from aios_eccos.records import Record

from . import load
from .kernel import Kernel, wait_ready, within
from .report import Report
from .stubs import Stubs

FILES = ("math10.jsonl.gz", "mixed4.jsonl.gz")
RECORDS = 10_000
#: Of the recorded questions one in so many is taken.
EVERY = 4
CALLS = 60
#: What budgets of a decision call short.
SHORT_TOKENS = 32
#: Model time of every stub, seconds.
MODEL_S = 0.1


@dataclass(frozen=True, slots=True)
class Known:
    """What the history holds.

    Attributes:
        records: recorded answers, topped up with copies.
        models: that are in them.
        prices: dollars per token, input and output, by model.
    """

    records: tuple[Record, ...]
    models: tuple[str, ...]
    prices: dict[str, tuple[float, float]]

    @classmethod
    def read(cls, data: Path) -> Known:
        """From the folder of recorded answers."""
        dataset = load_dataset([data / name for name in FILES])
        # Copies cost no embedding, and a search takes as long.
        filled = islice(cycle(dataset.records[::EVERY]), RECORDS)
        # The files share questions; under one id the later would replace the earlier.
        records = tuple(replace(record, id=str(number)) for number, record in enumerate(filled))
        return cls(records, dataset.models, load_prices(data / "prices.json"))

    def fill(self, home: Path, state: Path) -> None:
        """Put the records into the history of this checkout."""
        os.environ["AIOS_ECCOS_STATE"] = str(state)
        embedder = open_embedder(cache_dir=cache_dir())
        history = open_history("embedded", state_dir_of(home), embedder)
        for start in range(0, len(self.records), 1000):
            part = self.records[start : start + 1000]
            history.add(part, embedder.embed([record.text for record in part]))
        history.close()

    def entries(self, stubs: Stubs) -> list[dict[str, Any]]:
        """The stubs, named as the recorded models, as entries of AIOS's configuration."""
        return [
            {
                "name": name,
                "backend": "vllm",
                "hostname": stubs.url(name),
                "input_cost_per_token": self.prices[name][0],
                "output_cost_per_token": self.prices[name][1],
            }
            for name in stubs.models
        ]


def questions(most_tokens: int | None = None) -> list[str]:
    """Recorded questions with words before them, so that none stands in the history so."""
    dataset = load_dataset([Path(os.environ["AIOS_ECCOS_DATA"]) / name for name in FILES])
    texts = [f"Please solve this. {record.text}" for record in dataset.split("test")]
    most = most_tokens or max(map(len, texts))
    return random.Random(0).sample([text for text in texts if len(text) <= most * 4], CALLS)


def _decisions(kernel: Kernel, since: float, count: int) -> list[dict[str, Any]]:
    """The last decisions, all taken since then: they are kept in batches, after the answer."""

    def last() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = kernel.get(f"/eccos/decisions?n={count}")["decisions"]
        return [each for each in found if each["at"] >= since]

    within(2.0, lambda: len(last()) == count)
    return last()


def measure(report: Report, kernel: Kernel) -> None:
    """Latency without the model's time, and how much of it the decision took.

    Embedding grows with length, so that short questions have a row of their own.
    """
    wait_ready(kernel)
    for kind, most_tokens, limit_ms in (
        ("short questions", SHORT_TOKENS, 30.0),
        ("questions of any length", None, 30.0),
    ):
        asked = questions(most_tokens)
        load.run(load.each(kernel.url, asked[:5]))
        since = time.time()
        replies = load.run(load.each(kernel.url, asked))
        extra = [(reply.seconds - MODEL_S) * 1000 for reply in replies if reply.good]
        decided = _decisions(kernel, since, len(asked))
        took = load.median([decision["decision_s"] * 1000 for decision in decided])
        middle = load.median(extra)
        report.calls(
            f"lone routed call, 10 k records, {kind}",
            replies,
            all(reply.good for reply in replies) and middle <= limit_ms,
            value=round(middle, 2),
            unit="ms overhead",
            note=f"p95 {load.percentile(extra, 0.95):.1f} ms, {took:.1f} ms of it the decision; "
            f"median {load.median([len(text) / 4 for text in asked]):.0f} tokens; "
            f"to {len({reply.model for reply in replies})} models",
        )
