"""A lone call that names no model, with ten thousand records of history behind the real kernel."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aios_eccos.evaluate.dataset import load_dataset, load_prices
from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.locate import cache_dir, state_dir_of
from aios_eccos.values import Record

from . import load
from .kernel import Kernel
from .report import Report
from .routed import wait_ready
from .stubs import Stubs

RECORDS = 10_000
PRICES = "prices.json"
CALLS = 60
#: Model time of every stub, seconds.
MODEL_S = 0.1


def recorded(data: Path) -> tuple[list[Record], list[str], dict[str, tuple[float, float]]]:
    """All recorded answers, topped up with copies; questions that are none of them; prices.

    The questions are recorded ones with words before them: of their real length, and none stands in
    the history as it is asked.
    """
    dataset = load_dataset([data / "math10.jsonl.gz", data / "mixed4.jsonl.gz"])
    twice = (*dataset.records, *dataset.records)[:RECORDS]
    # The two files share questions; under one id the later would replace the earlier.
    records = [replace(record, id=str(number)) for number, record in enumerate(twice)]
    tests = random.Random(0).sample(dataset.split("test"), CALLS)
    return records, [f"Please solve this. {r.text}" for r in tests], load_prices(data / PRICES)


def fill(home: Path, state: Path, records: Sequence[Record]) -> None:
    """Put the records into the history of this checkout."""
    os.environ["AIOS_ECCOS_STATE"] = str(state)
    embedder = open_embedder(cache_dir=cache_dir())
    history = open_history("embedded", state_dir_of(home), embedder)
    for start in range(0, len(records), 1000):
        part = records[start : start + 1000]
        history.add(part, embedder.embed([record.text for record in part]))
    history.close()


def entries(stubs: Stubs, prices: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """The stubs, named as recorded models, as entries of AIOS's configuration."""
    return [
        {
            "name": name,
            "backend": "vllm",
            "hostname": stubs.url(name),
            "input_cost_per_token": prices[name][0],
            "output_cost_per_token": prices[name][1],
        }
        for name in stubs.models
    ]


def measure(report: Report, kernel: Kernel, asked: Sequence[str]) -> None:
    """Latency without the model's time, and where the plugin says that it went."""
    wait_ready(kernel)
    load.run(load.each(kernel.url, asked[:5]))
    replies = load.run(load.each(kernel.url, asked))
    extra = [(reply.seconds - MODEL_S) * 1000 for reply in replies if reply.good]
    time.sleep(2.0)  # decisions are kept in batches
    decided = kernel.get(f"/eccos/decisions?n={len(asked)}")["decisions"]
    took = load.median([decision["decision_s"] * 1000 for decision in decided])
    middle = load.median(extra)
    report.calls(
        "lone routed call, 10 k records, overhead",
        replies,
        all(reply.good for reply in replies) and middle <= 30,
        value=round(middle, 2),
        unit="ms",
        note=f"p95 {load.percentile(extra, 0.95):.1f} ms, {took:.1f} ms of it the decision; "
        f"to {', '.join(sorted({reply.model for reply in replies}))}",
    )
