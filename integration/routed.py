"""`python -m integration.routed`: recorded answers behind the real kernel, no model named.

Ours, stock `sequential`, and stock `smart` with the same history and the same embedder (once with
the prices that it ships, once with the file's): success, cost and waits in one table. Wants
`AIOS_HOME`, `CEREBRUM_HOME` and `AIOS_ECCOS_DATA`; under ten minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aios_eccos.evaluate.dataset import load_dataset, load_prices
from aios_eccos.evaluate.replay_server import ReplayServers, seconds_per_token
from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.locate import state_dir_of
from aios_eccos.values import Record

from . import load
from .kernel import Kernel, base_config, copy_aios, free_port, homes
from .report import Report, Row
from .run import workplace

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
        waits, share = [], {}
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
        figures = {
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


def fill_ours(home: Path, state: Path, history: Sequence[Record]) -> None:
    """The history of the plugin, in the state folder of this checkout."""
    os.environ["AIOS_ECCOS_STATE"] = str(state)
    embedder = open_embedder()
    store = open_history("embedded", state_dir_of(home), embedder)
    for start in range(0, len(history), 256):
        part = history[start : start + 256]
        store.add(part, embedder.embed([record.text for record in part]))
    store.close()


def fill_smart(home: Path, history: Sequence[Record]) -> None:
    """The same history where AIOS's `smart` strategy keeps its own."""
    import chromadb

    from .smart.embedding import SharedEmbedding

    folder = home / "aios/llm_core/llm_router"
    client = chromadb.PersistentClient(path=str(folder))
    collection = client.create_collection(
        "historical_queries", embedding_function=SharedEmbedding()
    )
    for start in range(0, len(history), 256):
        part = history[start : start + 256]
        collection.add(
            documents=[record.text for record in part],
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
    found, folder_of_data = homes(), os.environ.get("AIOS_ECCOS_DATA")
    if found is None or not folder_of_data:
        raise SystemExit("set AIOS_HOME, CEREBRUM_HOME and AIOS_ECCOS_DATA")
    data = Path(folder_of_data)
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
    with workplace(given.keep) as folder, ReplayServers(tests, dataset.models, pace) as servers:

        def entries() -> list[dict[str, Any]]:
            return [
                {
                    "name": name,
                    "backend": "vllm",
                    "hostname": servers.url(name),
                    "concurrency": LIMIT,
                    "input_cost_per_token": prices[name][0],
                    "output_cost_per_token": prices[name][1],
                }
                for name in dataset.models
            ]

        def measure(case: str, kernel: Kernel) -> None:
            replies = load.run(ask_all(kernel.url, texts, given.agents))
            row, figures = judge.row(case, replies)
            report.add(row)
            table.append({"case": case, **figures})

        floors = [text.strip() for text in given.floors.split(",")]
        home = copy_aios(found[0], folder / "ours")
        fill_ours(home, folder / "state", history)
        settings: dict[str, Any] = {"quality_floor": floors[0]}
        config = base_config(entries(), free_port(), {"strategy": "eccos", "eccos": settings})
        with Kernel(home, found[1], config, state=folder / "state", python=given.python) as kernel:
            wait_ready(kernel)
            for floor in floors:
                settings["quality_floor"] = floor
                kernel.write(config)
                kernel.post("/core/refresh")
                time.sleep(12)
                kernel.ask(texts[0])
                measure(f"ours, floor {floor}", kernel)
        price_file = folder / "prices.json"
        price_file.write_text(json.dumps({name: list(prices[name]) for name in dataset.models}))
        root = Path(__file__).parents[1]
        smart = os.pathsep.join([str(root / "integration/smart"), str(root)])
        for case, strategy, env in (
            ("stock sequential", "sequential", {}),
            ("stock smart, prices as shipped", "smart", {}),
            ("stock smart, our prices", "smart", {"SMART_PRICES": str(price_file)}),
        ):
            home = copy_aios(found[0], folder / case.replace(" ", "-").replace(",", ""))
            if strategy == "smart":
                fill_smart(home, history)
            config = base_config(entries(), free_port(), {"strategy": strategy})
            with Kernel(
                home,
                found[1],
                config,
                state=folder / "state",
                python=given.python,
                hook=False,
                first=smart if strategy == "smart" else None,
                env=env,
            ) as kernel:
                kernel.ask(texts[0])
                measure(case, kernel)
    return report.finish(given.json, data_hash=dataset.hash, calls=given.calls, table=table)


def wait_ready(kernel: Kernel, seconds: float = 120.0) -> None:
    """Wait until the plugin's history is open; until then it routes on priors."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if "Loading weights: 100%" in kernel.log.read_text(errors="replace"):
            return
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
