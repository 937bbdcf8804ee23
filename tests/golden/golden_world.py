"""The recipes of the golden files: what is run, and what of it is pinned.

    python -m tests.golden.golden_world --write [NAME ...]

makes the files anew, from the root of the checkout; without `--write` it says what differs. Do so
only for a change that is meant, and say in the commit what changed and why.

All that is imported of the plugin stands in the one block below: where modules move, it is the only
thing to change.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from golden_compare import blanked, differences, load, rounded, store, tree

import aios_eccos
from aios_eccos.cli.main import main
from aios_eccos.config import ModelEntry, parse_settings
from aios_eccos.history.embed import sentence
from aios_eccos.history.embed.encoders import Encoder
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.locate import Config, Location, load_config, locate
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.views import EdgeView
from aios_eccos.serve import recorder as recorder_module
from aios_eccos.serve import upkeep as upkeep_module
from aios_eccos.serve.engine import Engine
from aios_eccos.values import (
    Answer,
    CallResult,
    Decision,
    Failure,
    Outcome,
    Query,
    Record,
    Session,
)
from aios_eccos.workload.periods import TOTAL, PeriodSums

FILES = Path(__file__).parent / "files"
SHIPPED = Path(aios_eccos.__file__).parent / "data"
DATA, PRICES = SHIPPED / "demo.jsonl.gz", SHIPPED / "demo_prices.json"
#: Every so manieth row of the shipped data is measured, so that it takes seconds.
EVERY = 3
#: Nothing happens by the clock: no relearning, no look for changes but those that are asked for.
NEVER_S = 1e6
#: What a machine, a version or the time of day decides.
MACHINE = frozenset({"versions", "seconds", "at", "since", "milliseconds"})


# ---- The commands' JSON.


class Shell:
    """Runs commands in this process; they see no folder of the user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "small.jsonl"
        with gzip.open(DATA, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        self.rows, self.unseen = rows[::EVERY], rows[1::EVERY]
        self.data.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def run(self, *words: object) -> tuple[int, str]:
        """A command's exit code and standard output; what it says beside that is swallowed."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()) as error:
            try:
                main([str(word) for word in words])
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        if not said.getvalue().strip() and code:
            raise AssertionError(f"{words}: exit code {code}: {error.getvalue()}")
        return code, said.getvalue()

    def pinned(self, *words: object, blank: Sequence[str] = ()) -> dict[str, Any]:
        """A command whose JSON goes to standard output."""
        code, text = self.run(*words)
        return {"exit": code} | pinned(json.loads(text), blank)

    def pinned_file(self, *words: object, blank: Sequence[str] = ()) -> dict[str, Any]:
        """A command whose JSON goes to a file; what people read is left alone."""
        target = self.folder / "out.json"
        target.unlink(missing_ok=True)
        code, _ = self.run(*words, "--json", target)
        return {"exit": code} | pinned(json.loads(target.read_text(encoding="utf-8")), blank)


def pinned(value: Any, blank: Sequence[str] = ()) -> dict[str, Any]:
    """What is stored of a JSON value: its keys and types, and the values that hold everywhere."""
    return {"tree": tree(value), "values": blanked(value, MACHINE | set(blank))}


def invented(_: Path) -> Encoder:
    """An encoder that is the same on every machine, unlike a model: words' vectors are drawn."""

    def tokens(text: str) -> list[int]:
        return [zlib.crc32(word.encode()) for word in text.lower().split()] or [0]

    def forward(ids: Sequence[int]) -> tuple[Any, Any]:
        width = 384
        drawn = [np.random.default_rng(each).standard_normal(4 * width) for each in ids]
        layers = np.mean(drawn, axis=0, dtype=np.float32)
        return layers[2 * width : 3 * width], layers

    return Encoder("invented", tokens, 256, forward, passes=1)


@contextlib.contextmanager
def shell() -> Iterator[Shell]:
    """A shell in folders of its own; short paths, for a socket lies in them."""
    folder = Path(tempfile.mkdtemp(prefix="gold-"))
    changed = {
        "AIOS_ECCOS_STATE": str(folder / "state"),
        "AIOS_ECCOS_CACHE": str(folder / "cache"),
        "COLUMNS": "120",
    }
    try:
        with patch.dict(os.environ, changed), patch.object(sentence, "load_encoder", invented):
            os.environ.pop("AIOS_HOME", None)
            yield Shell(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


MEASURED = ("--prices", PRICES, "--floors", "0.6,0.75")


def evaluate(sh: Shell) -> dict[str, Any]:
    """Batch: our own, and those rivals that take no second to fit."""
    names = "single,hull,neighbour_threshold,utility_knn,lagrangian,clairvoyant"
    return sh.pinned_file(
        "evaluate", "--data", sh.data, *MEASURED, "--budgets", "0.0005", "--predictor", "retrieval",
        "--strategies", names, "--limits", "large-400b=12", blank=["data_hash"],
    )  # fmt: skip


def evaluate_all(sh: Shell) -> dict[str, Any]:
    """All strategies at one floor, task after task; what changed questions do to choices."""
    return sh.pinned_file(
        "evaluate", "--data", sh.data, "--prices", PRICES, "--floors", "0.7", "--strategies", "all",
        "--predictor", "retrieval", "--order", "recorded", blank=["data_hash"],
    )  # fmt: skip


def evaluate_stream(sh: Shell) -> dict[str, Any]:
    """Calls one by one, their outcomes seen."""
    return sh.pinned_file(
        "evaluate", "--data", sh.data, "--prices", PRICES, "--floors", "0.7", "--predictor",
        "retrieval", "--strategies", "single,hull", "--mode", "stream", blank=["data_hash"],
    )  # fmt: skip


def evaluate_predictor(sh: Shell) -> dict[str, Any]:
    """All three predictors on the file's own split, with the studies that fit nothing more."""
    return sh.pinned_file(
        "evaluate-predictor", "--data", sh.data, *MEASURED, "--resplits", 1,
        "--parts", "stream,ratios,certified", blank=["data_hash"],
    )  # fmt: skip


def demo(sh: Shell) -> dict[str, Any]:
    """Timing decides how many calls find a model full: only what was asked is pinned."""
    measured = ["success", "promised_success", "limited", "cost_usd", "peak_in_flight"]
    return sh.pinned_file(
        "demo", "--data", sh.data, "--prices", PRICES, "--calls", 16, "--agents", 4,
        "--floor", "0.7", "--limit", "large-400b=3", "--speedup", 1000,
        blank=[*measured, "data_hash"],
    )  # fmt: skip


CONFIG = """
server: {host: 127.0.0.1, port: 9}
llms:
  models:
    - {name: nano-1b, backend: openai, hostname: "http://nano", concurrency: 8,
       input_cost_per_token: 2.0e-8, output_cost_per_token: 4.0e-8}
    - {name: small-8b, backend: openai, hostname: "http://small", concurrency: 8,
       input_cost_per_token: 6.0e-8, output_cost_per_token: 9.0e-8}
    - {name: medium-70b, backend: openai, hostname: "http://medium", concurrency: 6,
       input_cost_per_token: 3.5e-7, output_cost_per_token: 4.5e-7}
    - {name: large-400b, backend: openai, hostname: "http://large", concurrency: 4,
       input_cost_per_token: 2.5e-6, output_cost_per_token: 1.0e-5}
  router:
    strategy: eccos
    eccos:
      quality_floor: FLOOR
      floor_mode: expected
      exploration: 0
      predictor: retrieval
      agents:
        coder/*: {quality_floor: 0.7, models: [small-8b, medium-70b, large-400b]}
"""


class Household:
    """A configured kernel's stores: a history in Chroma, a log in Redis, both in folders."""

    def __init__(self, sh: Shell, name: str) -> None:
        os.environ["AIOS_ECCOS_STATE"] = str(sh.folder / name)
        self.config = sh.folder / f"{name}.yaml"
        self.write("0.65")
        code, _ = sh.run("ingest", sh.data, "--config", self.config)
        assert code == 0

    def write(self, floor: str) -> Config:
        """The configuration with that floor."""
        self.config.write_text(CONFIG.replace("FLOOR", floor))
        return load_config(locate(self.config, None))


TEXT = "Ana has 26 marbles. She buys 12 more and gives 9 away. How many marbles has Ana now?"


def standing(sh: Shell) -> dict[str, Any]:
    """Commands that look at the history alone: `route` and `certify`."""
    home = Household(sh, "standing")
    at = ("--config", home.config)
    return {
        "route": sh.pinned("route", TEXT, "--json", *at),
        "route of an agent": sh.pinned("route", TEXT, "--json", "--agent", "coder/1", *at),
        "route at a floor": sh.pinned("route", TEXT, "--json", "--floor", "90%", *at),
        "certify": sh.pinned_file("certify", *at, blank=["data"]),
        "certify a high floor": sh.pinned_file("certify", "--floor", "0.95", *at, blank=["data"]),
    }


def living(sh: Shell) -> dict[str, Any]:
    """Look-ups while a kernel's engine lives: 60 calls, one after another, half of them judged.

    Durations are blanked; all else of decisions, sums and savings is the same in every run.
    """
    home = Household(sh, "living")
    at = ("--config", home.config)
    with quiet(), Engine(home.write("0.65")) as engine:
        assert engine.wait_ready(60) and engine.embedder is not None
        engine.embedder.wait()  # until it has loaded, calls are forecast without their text
        desk = Reader.of_engine(engine, lambda: EdgeView(mode="route", waiting=0, running=0))
        look(engine)
        for number, row in enumerate(sh.unseen[:60]):
            _live_call(engine, number, row)
            if number % 2 == 0 and number != 30:
                desk.feedback("last", float(number % 3 != 2))
                assert engine.recorder.flush()
            if number == 40:
                engine.use(home.write("0.6"))
                engine.learn()
                look(engine)
        judged, pinned_one, late = identity(58), identity(7), identity(59)
        changes = ("--floor", "0.75", "--limit", "large-400b=1", "--drop", "nano-1b")
        moving = ["usd_per_h"]
        return {
            "feedback": sh.pinned("feedback", late, "--wrong", "--json", *at),
            "status": sh.pinned("status", "--json", *at, blank=moving),
            "last": sh.pinned("last", 12, "--json", *at),
            "explain": sh.pinned("explain", judged, "--json", *at),
            "explain a pinned call": sh.pinned("explain", pinned_one, "--json", *at),
            "savings": sh.pinned("savings", "--json", *at),
            "savings against": sh.pinned("savings", "--baseline", "medium-70b", "--json", *at),
            "events": sh.pinned("events", "--json", *at),
            "whatif": sh.pinned("whatif", *changes, "--json", *at, blank=["waited"]),
            "models": pinned(json.loads(desk.models().model_dump_json(by_alias=True)), moving),
            "status of a kernel": pinned(
                json.loads(desk.status().model_dump_json(by_alias=True)), moving
            ),
            "explain of a kernel": pinned(
                json.loads(desk.explain(judged).model_dump_json(by_alias=True))
            ),
            "explain a text": pinned(
                json.loads(desk.explain_text(TEXT).model_dump_json(by_alias=True)), ["call"]
            ),
        }


def identity(number: int) -> str:
    """A call's id, told by its beginning, and in the shape of the kernel's own."""
    return f"{number:04x}{'0' * 28}"


def talk(model: str, read: int) -> Session:
    """A conversation that the model has served until now."""
    return Session(model, read={model: (read, time.time())})


def _live_call(engine: Engine, number: int, row: dict[str, Any]) -> CallResult:
    """The row's question as a call; every 7th is pinned, one fails."""
    tokens = {out["model_name"]: out["output_token_length"] for out in row["outputs"]}
    size = row["input_token_length"]

    def answer(model: str, left: float) -> Answer:
        if number == 30:
            return Answer(failure=Failure("400", 400, retryable=False))
        return Answer("fine", size, tokens[model])

    query = Query(
        row["query"],
        id=identity(number),
        agent=("writer", "coder/1", "")[number % 3],
        session=talk("small-8b", size // 2) if number % 10 == 5 else None,
        input_tokens=size,
        allowed=("medium-70b",) if number % 7 == 0 and number else None,
        floor=0.8 if number % 11 == 3 else None,
    )
    settled = engine.dispatcher.submit(query, answer).result(60)
    assert engine.recorder.flush()
    return settled


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Engines that do nothing by the clock."""
    with (
        patch.object(recorder_module, "LOOK_S", NEVER_S),
        patch.object(upkeep_module, "RELEARN_S", NEVER_S),
        patch.object(upkeep_module, "UPKEEP_S", NEVER_S),
    ):
        yield


def look(engine: Engine) -> None:
    """What the recorder does every few seconds: note changes, switch control and exploring on."""
    assert engine.recorder.flush()
    engine.recorder.look()


# ---- Recorded decisions.

POOL = (
    ModelEntry(name="tiny", hostname="http://a", concurrency=10, size_b=1,
               input_cost_per_token=0, output_cost_per_token=0),
    ModelEntry(name="small", hostname="http://b", concurrency=14,
               input_cost_per_token=5e-8, output_cost_per_token=1e-7),
    ModelEntry(name="coder", hostname="http://c", concurrency=8, abilities={"tools", "json"},
               input_cost_per_token=2e-7, output_cost_per_token=6e-7, context_window=4000),
    ModelEntry(name="middle", hostname="http://d", concurrency=9, abilities={"vision", "json"},
               input_cost_per_token=5e-7, output_cost_per_token=1.5e-6),
    ModelEntry(name="large", hostname="http://e", concurrency=7,
               input_cost_per_token=3e-6, output_cost_per_token=1.5e-5),
    ModelEntry(name="fresh", hostname="http://f", concurrency=5, size_b=30, strength=0.7,
               input_cost_per_token=4e-7, output_cost_per_token=1e-6),
)  # fmt: skip
NAMES = tuple(entry.name for entry in POOL)
#: Log-odds of success on a middling question, what its direction adds, tokens of an answer.
BASE = np.array([-1.0, 0.0, 0.3, 1.0, 2.0, 0.8])
TOKENS = np.array([90, 120, 150, 180, 220, 140])
DIMENSION = 8
KNOWN, ASKED = 480, 700
AGENTS = {
    "coder/*": {"quality_floor": 0.7, "models": ["coder", "middle", "large"]},
    "cheap/*": {"quality_floor": 0.45},
    "best/*": {"quality_floor": "97 %"},
    "local/*": {"models": ["tiny", "small", "fresh"]},
}


def exact_vectors(count: int, draw: np.random.Generator) -> Any:
    """(count, 8) directions of length 1 whose products float32 holds exactly.

    So no order in which a processor adds them up, or number of threads, changes a digit: whole
    numbers whose squares add up to 1024^2, divided by 1024.
    """
    whole = np.arange(1025)
    sums = whole[:, None] ** 2 + whole**2
    larger = np.full(2 * 1024**2 + 1, -1)
    larger[sums] = np.maximum(whole[:, None], whole)
    made = []
    middle = 0.8 * draw.normal(size=DIMENSION)
    while len(made) < count:
        vector = draw.normal(size=DIMENSION) + middle
        first = np.round(1024 * vector / np.linalg.norm(vector)).astype(int)[:-2]
        rest = 1024**2 - int((first**2).sum())
        # Not every number is a sum of two squares; of those that are not, another is drawn.
        if rest >= 0 and larger[rest] >= 0:
            one = int(larger[rest])
            last = np.array([one, round(math.sqrt(rest - one**2))])
            made.append([*first, *(last * draw.choice([-1, 1], size=2))])
    return np.array(made) / 1024


class Questions:
    """Invented questions by number: a direction, the chance of every model, its answer's length."""

    def __init__(self) -> None:
        draw = np.random.default_rng(2026)
        count = KNOWN + ASKED
        vectors = exact_vectors(count, draw)
        self.vectors = vectors.astype(np.float32)
        slopes = draw.normal(scale=1.2, size=(DIMENSION, len(NAMES))) + draw.normal(
            scale=1.5, size=(DIMENSION, 1)
        )
        self.chance = 1 / (1 + np.exp(-(BASE + vectors @ slopes)))
        self.success = (draw.uniform(size=self.chance.shape) < self.chance).astype(float)
        self.tokens = TOKENS + draw.integers(0, 60, size=self.chance.shape)
        self.asked = draw.uniform(size=self.chance.shape) < [0.95, 1.0, 0.85, 0.95, 0.9, 0.1]
        self.input_tokens = draw.integers(20, 400, size=count)

    def records(self) -> list[Record]:
        """The questions that the history knows."""
        return [
            Record(
                id=f"q{number:04}",
                text=str(number),
                input_tokens=int(self.input_tokens[number]),
                outcomes=tuple(
                    Outcome(
                        name,
                        float(self.success[number, column]) if (number + column) % 29 else None,
                        int(self.tokens[number, column]),
                    )
                    for column, name in enumerate(NAMES)
                    if self.asked[number, column]
                ),
                task="invented",
            )
            for number in range(KNOWN)
        ]


QUESTIONS = Questions()


class Recorded:
    """Embeds by the number that a text begins with: no model, so the same on every machine."""

    ready = True
    name, identity, dimension = "recorded", "recorded", DIMENSION

    def embed(self, texts: Sequence[str]) -> Any:
        return QUESTIONS.vectors[[int(text.split()[0]) for text in texts]]

    try_embed = embed

    def try_embed_with_layers(self, texts: Sequence[str]) -> None:
        return None

    def close(self) -> None:
        pass


def taught(config: Config) -> tuple[MemoryHistory, Any]:
    """A history in memory that holds the invented questions."""
    history, embedder = MemoryHistory(dimension=DIMENSION), Recorded()
    records = QUESTIONS.records()
    history.add(records, embedder.embed([record.text for record in records]))
    return history, embedder


def untaught(config: Config) -> tuple[MemoryHistory, Any]:
    """An empty history."""
    return MemoryHistory(dimension=DIMENSION), Recorded()


def configured(folder: Path, **settings: object) -> Config:
    """Settings over those that all worlds share."""
    shared = {"redis": "memory", "predictor": "retrieval", "quality_floor": 0.6, "agents": AGENTS}
    parsed = parse_settings({**shared, **settings})
    return Config(Location(None, None, folder, "golden"), parsed, POOL)


#: World -> (settings, decisions, factors that outcomes have put on prices by agent pattern).
WORLDS: dict[str, tuple[dict[str, object], int, dict[str, float]]] = {
    "expected": ({"floor_mode": "expected"}, 250, {}),
    "relative": ({"floor_mode": "expected", "quality_floor": "93 %", "neighbors": 16}, 250, {}),
    "controlled": ({}, 300, {"": 2.5, "coder/*": 0.3, "cheap/*": 40.0}),
    "exploring": ({"exploration": 0.2}, 250, {"": 0.8}),
    "certified": ({"floor_mode": "certified", "quality_floor": 0.5}, 250, {}),
    "budget": ({"floor_mode": "expected", "budget_per_call": 2e-4}, 250, {}),
    "waiting": ({"over_capacity": "wait", "session_affinity": False}, 200, {"": 1.4}),
    "untaught": ({}, 100, {}),
    "crowded": ({"quality_floor": 0.7, "floor_mode": "expected"}, 150, {}),
}


def query_of(number: int, draw: np.random.Generator, name: str) -> Query:
    """A call as agents send them: most plain, some pinned, with floors, needs, conversations."""
    kind = draw.uniform(size=8)
    agent = ("", "writer/1", "coder/7", "cheap/2", "best/1", "local/3")[int(draw.integers(6))]
    question = KNOWN + int(draw.integers(ASKED))
    allowed: tuple[str, ...] | None = None
    if kind[0] < 0.06:
        allowed = (NAMES[int(draw.integers(6))],)
    elif kind[0] < 0.15:
        allowed = tuple(NAMES[i] for i in sorted(draw.choice(6, size=3, replace=False)))
    size = 3900 if kind[1] < 0.03 else int(QUESTIONS.input_tokens[question])
    if kind[2] < 0.25:
        draw.integers(9)  # so that what follows is drawn as before
    return Query(
        f"{question} asked",
        id=f"{name}-{number:04}",
        agent=agent,
        session=talk(NAMES[int(draw.integers(6))], size // 2) if kind[2] < 0.2 else None,
        input_tokens=size,
        max_output_tokens=int(draw.integers(100, 900)) if kind[3] < 0.2 else None,
        allowed=allowed,
        needs=frozenset({"vision"}) if kind[4] < 0.04 else frozenset(),
        floor=round(float(draw.uniform(0.3, 0.95)), 2) if kind[5] < 0.1 else None,
        priority=int(kind[6] < 0.05),
    )


def decisions() -> dict[str, Any]:
    """2,000 decisions of a router on recorded embeddings: one by one, and in batches of 2 to 64.

    Slots come back at random, so limits bind now and then; a decision without a model waits.
    """
    with tempfile.TemporaryDirectory(prefix="gold-") as folder, quiet():
        rows = {
            name: _decide(Path(folder) / name, name, *recipe) for name, recipe in WORLDS.items()
        }
    assert sum(len(made) for made in rows.values()) == 2000
    return {"columns": list(COLUMNS), "worlds": rows}


COLUMNS = ("model", "status", "price", "floor", "promised", "policy")


def _row(decision: Decision) -> list[Any]:
    candidate = decision.candidate
    numbers = (candidate.price, candidate.worth.floor, decision.promised)
    return [decision.model, decision.status, *map(rounded, numbers), candidate.worth.policy]


def _decide(
    folder: Path, name: str, settings: dict[str, object], count: int, shifts: dict[str, float]
) -> list[list[Any]]:
    draw = np.random.default_rng([7, *name.encode()])
    stores = untaught if name == "untaught" else taught
    made: list[list[Any]] = []
    with Engine(configured(folder, **settings), stores=stores) as engine:
        assert engine.wait_ready(60)
        router = engine.router
        engine.ledger.add_sums([PeriodSums(TOTAL, 0.0, {"verdicts": 1.0})])  # so it explores
        engine.floors.look()
        engine.floors.controlled = frozenset(shifts)
        parsed = engine.config.settings
        floors = {key: policy.quality_floor for key, policy in parsed.agents.items()}
        engine.workload.set_prices(
            {
                f"shift:{key}:{floors.get(key) or parsed.quality_floor}": by
                for key, by in shifts.items()
            }
        )
        held: list[Decision] = []
        while len(made) < count:
            size = 1 if draw.uniform() < 0.6 else int(draw.integers(2, 65))
            size = min(size, count - len(made))
            queries = [query_of(len(made) + i, draw, name) for i in range(size)]
            if draw.uniform() < 0.5:
                found = router.route(queries).decisions
            else:
                found = router.assign(router.forecast(queries), router.slots()).decisions
            made += [_row(decision) for decision in found]
            held += [decision for decision in found if decision.model is not None]
            staying = 0.9 if name == "crowded" else 0.5
            back = draw.uniform(size=len(held)) > staying
            for decision, over in zip(held, back, strict=True):
                if over:
                    router.release(decision)
            held = [d for d, over in zip(held, back, strict=True) if not over]
    return made


# ---- The control trace.

TRACED = 500


def control() -> dict[str, Any]:
    """500 calls under a controlled floor, each served, kept and judged before the next one comes.

    The models do worse than history says up to the 250th call, then better; there the history is
    learnt from anew. Looks for verdicts, which switch control on, come after every tenth call.
    """
    draw = np.random.default_rng(99)
    made: list[list[Any]] = []
    settings = {"quality_floor": 0.65, "exploration": 0.05, "session_affinity": False}
    with (
        tempfile.TemporaryDirectory(prefix="gold-") as folder,
        quiet(),
        Engine(configured(Path(folder), **settings), stores=taught) as engine,
    ):
        assert engine.wait_ready(60)
        desk = Reader.of_engine(engine, lambda: EdgeView(mode="route", waiting=0, running=0))
        for number in range(TRACED):
            question = KNOWN + int(draw.integers(ASKED))
            luck = float(draw.uniform())
            agent = ("", "coder/7", "cheap/2", "writer/1")[int(draw.integers(4))]
            pinned_to = NAMES[int(draw.integers(6))] if draw.uniform() < 0.05 else None
            own = 0.8 if draw.uniform() < 0.05 else None
            query = Query(
                f"{question} asked",
                id=f"call-{number:04}",
                agent=agent,
                input_tokens=int(QUESTIONS.input_tokens[question]),
                allowed=None if pinned_to is None else (pinned_to,),
                floor=own,
            )
            settled = engine.dispatcher.submit(query, _replayed(question)).result(60)
            assert engine.recorder.flush()
            decision = settled.decision
            assert decision is not None and decision.model is not None
            chance = QUESTIONS.chance[question, NAMES.index(decision.model)]
            verdict = float(luck < chance * (0.75 if number < TRACED // 2 else 1.15))
            desk.feedback("last", verdict)
            alarmed = decision.candidate.worth.policy in engine.floors.alarmed
            made.append([*_row(decision), verdict, alarmed])
            if number % 10 == 9:
                look(engine)
            if number == TRACED // 2:
                assert engine.recorder.flush()
                engine.learn()
        shifts = {key: rounded(value) for key, value in engine.workload.read_prices().items()}
    return {"columns": [*COLUMNS, "verdict", "alarmed"], "calls": made, "shifts": shifts}


def _replayed(question: int) -> Callable[[str, float], Answer]:
    """Answers as long as they were recorded."""

    def answer(model: str, left: float) -> Answer:
        tokens = int(QUESTIONS.tokens[question, NAMES.index(model)])
        return Answer("fine", int(QUESTIONS.input_tokens[question]), tokens)

    return answer


# ---- All recipes.

#: In a shell, in this order: embeddings are made once and kept for the next command.
COMMANDS: dict[str, Callable[[Shell], dict[str, Any]]] = {
    "evaluate": evaluate,
    "evaluate_all": evaluate_all,
    "evaluate_stream": evaluate_stream,
    "evaluate_predictor": evaluate_predictor,
    "standing": standing,
    "living": living,
    "demo": demo,
}
#: Without any command.
ENGINES: dict[str, Callable[[], dict[str, Any]]] = {"decisions": decisions, "control": control}
#: How near numbers must be, relative and absolute. Embeddings are invented ones, the same on every
#: processor; a command's go through linear algebra whose last digits differ.
NEAR_ENGINES = (1e-6, 1e-12)
NEAR_COMMANDS = (1e-3, 1e-4)
#: Heads are fitted there, so last digits grow: by 2e-3 in an AUC between two kinds of processor.
NEAR_FITTED = (3e-3, 3e-3)
FITTED = frozenset({"evaluate_predictor"})


def check(name: str, value: Any) -> list[str]:
    """Every place where a recipe's value is not the stored one."""
    near = NEAR_ENGINES if name in ENGINES else NEAR_COMMANDS
    near = NEAR_FITTED if name in FITTED else near
    return differences(load(FILES, name), value, *near)


def made(names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The recipes' values, one after another."""
    with shell() as sh:
        for name, command in COMMANDS.items():
            if name in names:
                yield name, command(sh)
    for name, recipe in ENGINES.items():
        if name in names:
            yield name, recipe()


def _command(words: list[str]) -> int:
    import time

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    named = [word for word in words if not word.startswith("-")] or [*COMMANDS, *ENGINES]
    off, begun = 0, time.monotonic()
    for name, value in made(named):
        # As it will be read: tuples are lists then, and keys are text.
        value = json.loads(json.dumps(value))
        took, begun = time.monotonic() - begun, time.monotonic()
        if "--write" in words:
            path = store(FILES, name, value)
            print(f"{name}: {path.name}, {path.stat().st_size} bytes, {took:.1f} s")
            continue
        said = check(name, value)
        off += len(said)
        print(f"{name}: {len(said)} differences, {took:.1f} s", *said[:20], sep="\n  ")
    return int(off > 0)


if __name__ == "__main__":
    sys.exit(_command(sys.argv[1:]))
