"""`python -m integration.routed`: recorded answers behind the real kernel, no model named.

Ours, stock `sequential`, and stock `smart` with the same history and the same embedder (once with
the prices that it ships, once with the file's): success, cost and waits in one table. Wants
`AIOS_HOME`, `CEREBRUM_HOME` and `AIOS_ECCOS_DATA`; under ten minutes on two idle cores. All kernels
are started at first, beside each other; they are measured one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.history.store import Embeddings
from aios_eccos.lab.dataset import load_dataset, load_prices
from aios_eccos.lab.replay_server import ReplayServers, seconds_per_token
from aios_eccos.locate import cache_dir, state_dir_of
from aios_eccos.records import Record

from . import load
from .kernel import (
    Kernel,
    base_config,
    copy_aios,
    free_port,
    homes,
    start_all,
    wait_ready,
    workplace,
)
from .report import Report, Row, data_folder

#: Mean time of a recorded answer, seconds.
MEAN_S = 0.15
LIMIT = 8


def labelled(record: Record) -> Record:
    """The record with answers that say which model gave them and how good they are."""
    outcomes = tuple(
        replace(
            outcome,
            prediction=json.dumps({"model": outcome.model, "correctness": outcome.correctness}),
        )
        for outcome in record.outcomes
    )
    return replace(record, outcomes=outcomes)


def entries_of(
    servers: ReplayServers, prices: Mapping[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    """The servers as entries of AIOS's configuration."""
    return [
        {
            "name": name,
            "backend": "vllm",
            "hostname": servers.url(name),
            "concurrency": LIMIT,
            "input_cost_per_token": prices[name][0],
            "output_cost_per_token": prices[name][1],
        }
        for name in servers.models
    ]


async def ask_all(url: str, texts: Sequence[str], agents: int) -> list[load.Reply]:
    """`agents` agents share the calls; each sends its next when it has its answer."""
    begun = time.monotonic()

    async def one(number: int) -> list[load.Reply]:
        client = load.Client(url, f"agent{number}", begun)
        replies = [await client.ask(text) for text in texts[number::agents]]
        client.close()
        return replies

    return [reply for part in await asyncio.gather(*map(one, range(agents))) for reply in part]


class Judge:
    """Knows what every model's answer to every text was worth and cost."""

    def __init__(self, records: Sequence[Record], prices: dict[str, Any], pace: float) -> None:
        self._records = {record.text: record for record in records}
        self._prices, self._pace = prices, pace

    def row(self, case: str, replies: Sequence[load.Reply]) -> tuple[Row, dict[str, Any]]:
        """Success, cost and waits of a run."""
        right = cost = 0.0
        waits: list[float] = []
        share: dict[str, int] = {}
        lost = [reply for reply in replies if not reply.good]
        for reply in replies:
            if not reply.good:
                continue
            said = json.loads(str((reply.response or {})["response_message"]))
            record = self._records[reply.text]
            outcome = next(o for o in record.outcomes if o.model == said["model"])
            model_price = self._prices[outcome.model]
            tokens = outcome.output_tokens or 0
            right += outcome.correctness or 0.0
            cost += record.input_tokens * model_price[0] + tokens * model_price[1]
            waits.append(reply.seconds - tokens * self._pace)
            share[outcome.model] = share.get(outcome.model, 0) + 1
        answered = max(len(replies) - len(lost), 1)
        figures: dict[str, Any] = {
            "success": round(right / answered, 4),
            "cost_usd": round(cost, 6),
            "wait_p50_s": round(load.median(waits), 4),
            "wait_p95_s": round(load.percentile(waits, 0.95), 4),
            "calls_per_s": round(load.rate(replies), 3),
            "share": dict(sorted(share.items(), key=lambda item: -item[1])),
        }
        row = Row(
            case,
            not lost,
            sent=len(replies),
            answered=answered,
            lost=len(lost),
            p50_s=figures["wait_p50_s"],
            p95_s=figures["wait_p95_s"],
            value=figures["success"],
            unit="success",
            note=f"${cost:.5f}  {figures['calls_per_s']} calls/s",
        )
        return row, figures


def fill_ours(home: Path, state: Path, history: Sequence[Record], vectors: Embeddings) -> None:
    """The history of the plugin, in the state folder of this checkout."""
    os.environ["AIOS_ECCOS_STATE"] = str(state)
    store = open_history("embedded", state_dir_of(home), open_embedder())
    for start in range(0, len(history), 1000):
        store.add(history[start : start + 1000], vectors[start : start + 1000])
    store.close()


def fill_smart(folder: Path, history: Sequence[Record], vectors: Embeddings) -> None:
    """The same history as AIOS's `smart` strategy keeps its own."""
    import chromadb

    from .smart.embedding import SharedEmbedding

    client = chromadb.PersistentClient(path=str(folder))
    collection = client.create_collection(
        "historical_queries", embedding_function=SharedEmbedding()
    )
    for start in range(0, len(history), 1000):
        part = history[start : start + 1000]
        collection.add(
            documents=[record.text for record in part],
            embeddings=vectors[start : start + 1000],
            ids=[str(start + i) for i in range(len(part))],
            metadatas=[
                {
                    "input_token_length": record.input_tokens,
                    "models": json.dumps(
                        [
                            {
                                "model_name": outcome.model,
                                "correctness": bool(outcome.correctness),
                                "output_token_length": outcome.output_tokens or 0,
                            }
                            for outcome in record.outcomes
                        ]
                    ),
                }
                for record in part
            ],
        )


@dataclass(frozen=True, slots=True)
class Kernels:
    """Makes a kernel of each kind, on a copy of AIOS's checkout, all on the same models."""

    folder: Path
    homes: tuple[Path, Path]
    python: str
    entries: list[dict[str, Any]]

    def ours(self, floor: str) -> Kernel:
        """With the plugin."""
        return self._kernel("ours", {"strategy": "eccos", "eccos": {"quality_floor": floor}})

    def stock(self, strategy: str) -> Kernel:
        """AIOS as it is."""
        return self._kernel(strategy, {"strategy": strategy}, hook=False)

    def smart(self, name: str, env: dict[str, str]) -> Kernel:
        """AIOS's `smart`, with the history that `fill_smart` has made."""
        root = Path(__file__).parents[1]
        first = os.pathsep.join([str(root / "integration/smart"), str(root)])
        kernel = self._kernel(name, {"strategy": "smart"}, hook=False, first=first, env=env)
        history = kernel.home / "aios/llm_core/llm_router"
        shutil.copytree(self.folder / "smart-history", history, dirs_exist_ok=True)
        return kernel

    def _kernel(self, name: str, router: dict[str, Any], **options: Any) -> Kernel:
        home = copy_aios(self.homes[0], self.folder / name)
        config = base_config(self.entries, free_port(), router)
        state = self.folder / "state"
        return Kernel(home, self.homes[1], config, state=state, python=self.python, **options)


def main() -> int:
    """Run all systems; 1 if a call was lost."""
    parser = argparse.ArgumentParser(prog="python -m integration.routed", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs AIOS")
    parser.add_argument(
        "--data", type=Path, help="QAServe file; default: math10 of the data folder"
    )
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--floors", default="0.75,95 %", help="ours, one run each")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    data, found = data_folder(), homes()
    assert found is not None
    dataset = load_dataset([given.data or data / "math10.jsonl.gz"])
    prices = load_prices(data / "prices.json")
    history = dataset.split("train", "val")
    tests = dataset.split("test")
    random.Random(0).shuffle(tests)
    tests = [labelled(record) for record in tests[: given.calls]]
    pace = seconds_per_token(tests, dataset.models, MEAN_S)
    report, table = Report("integration-routed"), []
    judge = Judge(tests, prices, pace)
    texts = [record.text for record in tests]
    with (
        workplace(given.keep) as folder,
        ReplayServers(tests, dataset.models, pace) as servers,
        contextlib.ExitStack() as running,
    ):
        kernels = Kernels(folder, found, given.python, entries_of(servers, prices))
        # Kept between runs, as `evaluate` does.
        embedder = open_embedder(cache_dir=cache_dir())
        vectors = embedder.embed([record.text for record in history])
        floors = [text.strip() for text in given.floors.split(",")]
        ours = kernels.ours(floors[0])
        fill_ours(ours.home, folder / "state", history, vectors)
        fill_smart(folder / "smart-history", history, vectors)
        price_file = folder / "prices.json"
        price_file.write_text(json.dumps({name: list(prices[name]) for name in dataset.models}))
        stock = {
            "stock sequential": kernels.stock("sequential"),
            "stock smart, prices as shipped": kernels.smart("shipped", {}),
            "stock smart, our prices": kernels.smart("priced", {"SMART_PRICES": str(price_file)}),
        }
        for kernel in (ours, *stock.values()):
            running.push(kernel)
        start_all([ours, *stock.values()])

        def measure(case: str, kernel: Kernel) -> None:
            kernel.ask(texts[0])
            replies = load.run(ask_all(kernel.url, texts, given.agents))
            row, figures = judge.row(case, replies)
            report.add(row)
            table.append({"case": case, **figures})

        wait_ready(ours)
        for floor in floors:
            assert ours.config is not None
            ours.config["llms"]["router"]["eccos"]["quality_floor"] = floor
            ours.write(ours.config)
            ours.post("/core/refresh")
            measure(f"ours, floor {floor}", ours)
        ours.stop()
        for case, kernel in stock.items():
            measure(case, kernel)
            kernel.stop()
    return report.finish(given.json, data_hash=dataset.hash, calls=given.calls, table=table)


if __name__ == "__main__":
    sys.exit(main())
