"""How long a decision takes with everything real but the models, and what a lease costs.

The history lies in an embedded Chroma, slots in an embedded Redis, forecasts are hybrid. The peer
does what AIOS's SmartRouting does, with our embedder: query by query it embeds, reads the 16
nearest records, and takes the cheapest model above a threshold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.learn import head_path, learn_from
from aios_eccos.forecast.head.artifact import data_hash, save_head
from aios_eccos.history.client import close_client, open_folder
from aios_eccos.history.embed.embedding import BackgroundEmbedder, Embedder, find_embedder
from aios_eccos.history.embed.sentence import SentenceEmbedder
from aios_eccos.history.open import open_history
from aios_eccos.lab.bench_rows import Row, Took, compared, percentile, timed, times_cheaper
from aios_eccos.lab.dataset import Recorded, load_dataset, open_recorded
from aios_eccos.lab.fitted import Fitted, records_of
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.router import Router
from aios_eccos.serve.stores import open_stores_of
from aios_eccos.values import Answer, Assignment, Lease, Query

SHIPPED = Path(__file__).parents[1] / "data"
#: Below $AIOS_ECCOS_DATA.
FILES, PRICES = ("math10.jsonl.gz", "mixed4.jsonl.gz"), "prices.json"
#: Tokens of a short text at most; calls at once.
SHORT, BATCH = 32, 64
#: Of SmartRouting: neighbors, and the success that its choice must promise.
NEIGHBORS, THRESHOLD = 16, 0.7


@dataclass(frozen=True)
class World:
    """A router with all that stands behind it, and short questions that its history lacks."""

    data: Recorded
    router: Router
    embedder: Embedder
    folder: Path
    texts: tuple[str, ...]

    def queries(self, turn: int, count: int = 1) -> list[Query]:
        """So many questions, others at each turn."""
        texts = islice(cycle(self.texts), turn * count, (turn + 1) * count)
        return [Query(text, agent="bench", input_tokens=len(text) // 4) for text in texts]


@contextmanager
def opened(folder: Path, *, quick: bool, seed: int) -> Iterator[World]:
    """A world below an empty folder: of $AIOS_ECCOS_DATA, else or if `quick` of the shipped data.

    Embeddings and the trained head are kept between runs.
    """
    recorded = os.environ.get("AIOS_ECCOS_DATA")
    place = Path(recorded) if recorded and not quick else SHIPPED
    files, prices = (
        (FILES, PRICES) if place != SHIPPED else (("demo.jsonl.gz",), "demo_prices.json")
    )
    dataset = load_dataset([place / name for name in files])
    # The files share ids.
    rows = tuple(replace(row, id=str(number)) for number, row in enumerate(dataset.records))
    data = open_recorded(replace(dataset, records=rows), place / prices, layers=True)
    fitted = Fitted(data, np.arange(len(rows)), key="bench")
    settings, embedder, path = Settings(), SentenceEmbedder(find_embedder()), head_path(folder)
    save_head(path, fitted.head, embedder=embedder.name, data=data_hash(data.table))
    background = BackgroundEmbedder(lambda: embedder)
    workload, ledger = open_stores_of(folder, settings)
    history = open_history("embedded", folder, embedder)
    try:
        history.add(records_of(data.table), data.table.embeddings)
        learned = learn_from(history, background, settings, data.models, path)
        floors = Floors(settings, workload, workload)
        router = Router(data.models, settings, workload, learned, floors)
        tokens = embedder.load().tokens
        asked = {f"Please: {text}" for text in data.table.texts if len(text) < 8 * SHORT}
        short = [text for text in sorted(asked) if len(tokens(text)) <= SHORT]
        texts = np.random.default_rng(seed).permutation(short)
        yield World(data, router, embedder, folder, tuple(map(str, texts)))
    finally:
        background.close()
        history.close()
        ledger.close()
        workload.close()


class Threshold:
    """See the module; slots, floors and what was learned of calls are no part of it."""

    def __init__(self, world: World) -> None:
        table = world.data.table
        self._embedder, self._prices = world.embedder, world.data.prices
        self._client = open_folder(world.folder / "peer")
        self._rows = self._client.create_collection("historical_queries", embedding_function=None)
        outputs = [
            [
                {"model_name": out.model, "correctness": out.correctness or 0.0,
                 "output_token_length": out.output_tokens or 0}
                for out in record.outcomes
            ]
            for record in records_of(table)
        ]  # fmt: skip
        for start in range(0, len(table), 1000):
            part = slice(start, start + 1000)
            self._rows.add(
                ids=[*table.ids[part]],
                embeddings=table.embeddings[part],
                documents=[*table.texts[part]],
                metadatas=[{"models": json.dumps(each)} for each in outputs[part]],
            )

    def __call__(self, query: Query) -> str:
        """The model for one query."""
        vector = self._embedder.embed([query.text])
        found = self._rows.query(query_embeddings=vector, n_results=NEIGHBORS)
        seen = dict.fromkeys(self._prices.models, (0, 0.0, 0))
        for metadata in found["metadatas"][0]:
            for each in json.loads(metadata["models"]):
                count, right, length = seen[each["model_name"]]
                right += int(each["correctness"])
                seen[each["model_name"]] = count + 1, right, length + each["output_token_length"]
        success = {name: right / max(n, 1) for name, (n, right, _) in seen.items()}
        cost = {
            name: self._prices.paid(name, query.input_tokens, length / max(n, 1))
            for name, (n, _, length) in seen.items()
        }
        good = [name for name in seen if success[name] >= THRESHOLD]
        return min(good, key=cost.__getitem__) if good else max(seen, key=success.__getitem__)

    def close(self) -> None:
        """Let go of its rows."""
        close_client(self._client)


def decision(world: World, times: int, least: tuple[float, float]) -> list[Row]:
    """A short query alone, 64 at once, and a call's whole way through the dispatcher.

    Args:
        least: how many times less processor time than the peer's the first two must take.
    """
    peer = Threshold(world)
    try:
        alone, rival = compared(times, _deciding(world, 1), _peer(world, peer))
        many, _ = compared(max(times // 8, 5), _deciding(world, BATCH), _peer(world, peer))
    finally:
        peer.close()
    rows = [
        Row("decision", name, n, percentile(took, 50), p99=percentile(took, 99), budget=budget,
            p99_budget=most, peer="one-by-one threshold", peer_value=percentile(rival, 50),
            times_cheaper=times_cheaper(took, rival), least=at_least)
        for name, n, took, budget, most, at_least in (
            ("a short query", 1, alone, 5.0, 15.0, least[0]),
            ("each of 64 short queries", BATCH, many, 1.2, None, least[1]),
        )
    ]  # fmt: skip
    with Dispatcher(world.router) as dispatcher:
        way = [
            timed(dispatcher.submit(world.queries(turn)[0], _answered).result)
            for turn in range(times)
        ]
    # .3 % of an answer that takes two seconds.
    whole = percentile(way, 50), percentile(way, 99)
    return [*rows, Row("decision", "a call's whole way", 1, whole[0], p99=whole[1], budget=6.0)]


def _deciding(world: World, count: int) -> Callable[[int], Took]:
    def decide(turn: int) -> Took:
        queries = world.queries(turn, count)
        found: list[Assignment] = []
        took = timed(lambda: found.append(world.router.route(queries)))
        for made in found[0].decisions:
            world.router.release(made)
        return Took(took.clock / count, took.processors / count)

    return decide


def _peer(world: World, peer: Threshold) -> Callable[[int], Took]:
    return lambda turn: timed(lambda: peer(world.queries(turn)[0]))


def _answered(model: str, left: float) -> Answer:
    return Answer("fine", 10, 10)


def leases(folder: Path, times: int) -> list[Row]:
    """64 leases in one request, against a request each."""
    store, ledger = open_stores_of(folder, Settings())
    limits = {f"slot{number}": 1000 for number in range(10)}

    def lent(parts: int) -> Callable[[int], Took]:
        def lend(turn: int) -> Took:
            slots = islice(cycle(limits), BATCH)
            wanted = [Lease(f"{parts} {turn} {at}", slot) for at, slot in enumerate(slots)]
            size = BATCH // parts
            cut = [wanted[start : start + size] for start in range(0, BATCH, size)]
            spent = timed(lambda: [store.acquire(part, limits) for part in cut])
            store.release(wanted)
            return spent

        return lend

    try:
        ours, peer = compared(times, lent(1), lent(BATCH))
    finally:
        ledger.close()
        store.close()
    value, other = percentile(ours, 50), percentile(peer, 50)
    return [
        Row("leases", "64 at once", BATCH, value, p99=percentile(ours, 99), budget=2.0,
            peer="a request each", peer_value=other, least=4.0)
    ]  # fmt: skip
