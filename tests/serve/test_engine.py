"""The engine with real stores: embedded Redis, embedded Chroma, the packaged embedder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from waiting import until

from aios_eccos.config import parse_settings
from aios_eccos.errors import EmbedderError, HistoryError, HistoryOwned, WorkloadError
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.ingest import hand_over
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.locate import Config, Location
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Model, Outcome, Query, Record
from aios_eccos.workload.memory import MemoryWorkload

pytestmark = pytest.mark.usefixtures("patient_redis")

MODELS = (
    Model("small", input_price=1e-7, output_price=1e-7, limit=2),
    Model("large", input_price=1e-5, output_price=1e-5, limit=2),
)
OUTPUTS = [
    {"model_name": model.name, "correctness": True, "output_token_length": 20} for model in MODELS
]
ROWS = "\n".join(
    json.dumps({"query": f"What is {i} plus 1?", "input_token_length": 12, "outputs": OUTPUTS})
    for i in range(60)
)


def open_engine(folder, **settings):
    location = Location(None, None, folder, "test")
    return Engine(Config(location, parse_settings(settings), ()), models=MODELS)


def retrieving(folder, history=None, embedder=None):
    """An engine that forecasts by a history in memory, and shares nothing."""
    settings = parse_settings({"redis": "memory", "predictor": "retrieval"})
    stores = MemoryHistory(dimension=2) if history is None else history, embedder
    config = Config(Location(None, None, folder, "test"), settings, ())
    return Engine(config, models=MODELS, stores=lambda _: stores)


def answer(model: str, left: float) -> Answer:
    return Answer(value=model, input_tokens=5, output_tokens=20)


def redis_servers(folder) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"redis" in command and str(folder).encode() in command:
                found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


def test_an_engine_serves_learns_and_leaves_nothing_running(folder, tmp_path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with open_engine(folder, quality_floor=0.5) as engine:
        early = engine.dispatcher.submit(Query("What is 5 plus 6?"), answer).result(60)
        assert early.answer.value == "large", "no history yet: the strongest by price"
        assert engine.wait_ready(60)
        assert engine.upkeep.error is None
        assert engine.history is not None
        rows = tmp_path / "rows.jsonl"
        rows.write_text(ROWS, encoding="utf-8")
        hand_over([rows], engine.workload)
        engine.upkeep.take_inbox()
        assert len(engine.history.compared()) == 60
        engine.learn()
        late = engine.dispatcher.submit(Query("What is 7 plus 8?"), answer).result(60)
        assert late.answer.value == "small"
        with open_engine(folder) as other:
            assert other.wait_ready(60)
            assert isinstance(other.upkeep.error, HistoryOwned)
            served = other.dispatcher.submit(Query("Hello?"), answer).result(60)
            assert served.answer.failure is None, "without the history, priors route"
            assert other.workload.kernels == 2
    until(lambda: not redis_servers(folder))
    ours = {t.name for t in threading.enumerate() if t.name.startswith("eccos")}
    assert ours <= before


def test_what_was_ingested_is_there_at_the_next_start(folder) -> None:
    with open_engine(folder, quality_floor=0.5) as engine:
        assert engine.wait_ready(60)
        assert engine.history is not None
        assert len(engine.history.compared()) == 60
        settled = engine.dispatcher.submit(Query("What is 3 plus 4?"), answer).result(60)
    assert settled.answer.value == "small"


def test_an_embedder_that_cannot_be_loaded_is_not_tried_again_after_the_end(tmp_path) -> None:
    def load() -> object:
        raise EmbedderError("no such folder")

    before = set(threading.enumerate())
    embedder = BackgroundEmbedder(load)
    (loading,) = set(threading.enumerate()) - before
    with retrieving(tmp_path, MemoryHistory(), embedder) as engine:
        assert engine.wait_ready(60)
        assert loading.is_alive()
    until(lambda: not loading.is_alive())


def test_success_has_a_price_before_all_that_was_ingested_is_embedded(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("aios_eccos.serve.upkeep.TAKE_S", 0.05)
    done = threading.Event()

    class Slow:
        def embed(self, texts):
            done.wait(0.05 if len(texts) > 1 else 0)
            rows = np.random.default_rng(len(texts)).normal(size=(len(texts), 8))
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    rows = tmp_path / "rows.jsonl"
    line = {"input_token_length": 12, "outputs": OUTPUTS}
    rows.write_text(
        "\n".join(json.dumps({"query": f"What is {i} plus 1?", **line}) for i in range(3000)),
        encoding="utf-8",
    )
    with retrieving(tmp_path, MemoryHistory(), BackgroundEmbedder(Slow)) as engine:
        assert engine.wait_ready(60)
        hand_over([rows], engine.workload)
        until(lambda: (book := engine.router.learned.book) is not None and book.curve())
        assert engine.workload.inbox_sizes()[0] > 0, "the rest is embedded meanwhile"
        done.set()
        until(lambda: len(engine.history.compared()) == 3000)


def test_the_end_waits_for_no_more_than_a_piece_of_what_is_embedded(tmp_path) -> None:
    texts, begun = [], threading.Event()

    class Slow:
        def embed(self, part):
            texts.extend(part)
            if len(part) > 1:
                begun.set()
                time.sleep(0.3)
            return np.ones((len(part), 2), dtype=np.float32)

    rows = tmp_path / "rows.jsonl"
    line = {"input_token_length": 12, "outputs": OUTPUTS}
    asked = [json.dumps({"query": f"What is {i} plus 1?", **line}) for i in range(5000)]
    rows.write_text("\n".join(asked), encoding="utf-8")
    others = {*threading.enumerate()}  # another suite's kernel lives as long as the session
    with retrieving(tmp_path, embedder=BackgroundEmbedder(Slow)) as engine:
        assert engine.wait_ready(60)
        hand_over([rows], engine.workload)
        assert begun.wait(60)
        before = len(texts)
    assert len(texts) - before <= 64, "the piece under way, and one more"
    left = {*threading.enumerate()} - others
    assert "eccos-upkeep" not in {thread.name for thread in left}


def test_what_could_not_be_learnt_is_tried_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("aios_eccos.serve.upkeep.UPKEEP_S", 0.02)

    told = threading.Event()

    def stores(config: Config) -> tuple[MemoryHistory, None]:
        return MemoryHistory(dimension=2), None

    class Fickle(Engine):
        learnt, ended = 0, False

        def learn(self) -> None:
            if not told.is_set():
                raise HistoryError("the store is busy")
            if not self.ended:
                self.ended = True
                raise SystemExit
            self.learnt += 1

    settings = parse_settings({"redis": "memory", "predictor": "retrieval"})
    with Fickle(
        Config(Location(None, None, tmp_path, "test"), settings, ()), stores=stores
    ) as engine:
        assert engine.wait_ready(60)
        assert "the store is busy" in str(engine.upkeep.error)
        told.set()
        until(lambda: engine.learnt)
        time.sleep(0.2)
        assert engine.upkeep.error is None
        assert engine.learnt == 1, "what is learnt is not learnt again"


def test_what_other_kernels_cannot_be_told_is_no_fault_of_the_history(
    tmp_path, monkeypatch, caplog
) -> None:
    others = {thread.ident for thread in threading.enumerate()}  # an engine that still ends, too

    def away(self: MemoryWorkload, names: list[str]) -> list[str | None]:
        raise WorkloadError("Redis is away")

    monkeypatch.setattr(MemoryWorkload, "notes", away)
    with retrieving(tmp_path) as engine:
        assert engine.wait_ready(60)
        assert engine.upkeep.error is None
    told = [each for each in caplog.records if each.thread not in others]
    assert [each.getMessage() for each in told if "Redis is away" in each.getMessage()] == [
        "calls are routed with what is known: Redis is away"
    ]


def test_a_floor_that_holds_in_a_budgets_place_is_warned_of_as_any_is(tmp_path, caplog) -> None:
    history = MemoryHistory()
    outcomes = tuple(Outcome(model.name, 0.0, 20) for model in MODELS)
    rows = np.random.default_rng(0).normal(size=(40, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    history.add([Record(f"{i}", f"What is {i}?", 5, outcomes) for i in range(40)], rows)
    settings = parse_settings({"redis": "memory", "budget_per_call": 0.01, "quality_floor": 0.9})
    config = Config(Location(None, None, tmp_path, "test"), settings, ())
    unpriced = [Model(model.name) for model in MODELS]
    with Engine(config, models=unpriced, stores=lambda _: (history, None)) as engine:
        assert engine.wait_ready(60)
    assert "quality_floor = 0.9 (0.900) is out of reach" in caplog.text


def test_a_history_that_is_away_when_the_kernel_is_refreshed_is_learned_from_later(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("aios_eccos.serve.upkeep.UPKEEP_S", 0.02)
    away = threading.Event()

    class Remote(MemoryHistory):
        def count(self) -> int:
            if away.is_set():
                raise HistoryError("the server does not answer")
            return super().count()

    history, learned = Remote(dimension=2), []
    with retrieving(tmp_path, history) as engine:
        assert engine.wait_ready(60)
        away.set()
        engine.use(engine.config, MODELS[:1])
        until(lambda: engine.upkeep.error)
        monkeypatch.setattr(engine.floors, "prepare", lambda *what: learned.append(what))
        away.clear()
        until(lambda: learned)
        until(lambda: engine.upkeep.error is None)


def test_a_call_that_cannot_be_asked_again_is_recorded_all_the_same(tmp_path) -> None:
    def raises():
        raise SystemExit

    with open_engine(tmp_path, redis="memory", audit="5 %") as engine:
        query = Query("What is 5 plus 6?")
        assert engine.dispatcher.submit(query, answer, raises).result(60).answer.value == "large"
        assert engine.recorder.flush(60)
        assert len(engine.ledger.decisions(5)) == 1


SQLITE = b"SQLite format 3\0" + bytes(84)
HARMS = {
    "its folder was removed": lambda path: shutil.rmtree(path.parent),
    "another took its place": lambda path: (path.unlink(), path.write_bytes(SQLITE)),
    "its file was overwritten": lambda path: path.write_bytes(b"garbage"),
    "its file was emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_an_embedded_history_whose_files_are_harmed_under_the_kernel_is_said(
    tmp_path, monkeypatch, harm
) -> None:
    """What is open goes on to work, and all that it learns would be lost without a word."""
    monkeypatch.setattr("aios_eccos.serve.upkeep.UPKEEP_S", 0.02)
    path = tmp_path / "history" / "chroma" / "chroma.sqlite3"
    path.parent.mkdir(parents=True)
    path.write_bytes(SQLITE)
    kept = path.with_name("kept")
    os.link(path, kept)  # keeps the number of the file from being used again
    with retrieving(tmp_path) as engine:
        assert engine.wait_ready(60)
        assert engine.upkeep.error is None
        harm(path)
        until(lambda: "under this kernel" in str(engine.upkeep.error))
