"""How many calls the dispatcher starts, and how long short ones wait among long ones.

Peers run the same stubs: bare threads, and AIOS's own scheduling, which gathers calls for a while,
runs them together, and looks for more when the last of them is answered.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from aios_eccos.lab.bench_rows import Row, compared, percentile, timed, times_cheaper
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.lending import NEVER_ASKED
from aios_eccos.values import Answer, Assignment, Bar, Candidate, Decision, Price, Query, Slots

MODELS = tuple(f"model{number}" for number in range(10))
#: Of the mixture: seconds of a short and of a long call, calls a second, share of long ones, and
#: AIOS's interval.
SHORT_S, LONG_S, RATE, LONG, INTERVAL_S = 0.2, 2.0, 6.0, 0.25, 1.0
_ROW, _ALL = np.full(len(MODELS), 0.5), np.ones(len(MODELS), dtype=bool)
_NONE, _FREE = np.zeros(len(MODELS)), np.full(len(MODELS), 100_000)
_SLOTS = Slots(dict.fromkeys(MODELS, 100_000), dict.fromkeys(MODELS, 100_000))
_WORTH = Price(value=1.0)


class StubRouter:
    """Lends everything, and forecasts nothing."""

    spills = True

    def forecast(self, queries: list[Query]) -> list[Candidate]:
        return [
            Candidate(query, MODELS, _ROW, _ROW, _ROW, _ROW, _ALL, 0.0, _WORTH) for query in queries
        ]

    def slots(self, calls: int | None = None) -> Slots:
        return _SLOTS

    def bars(self, candidate: Candidate, slots: Slots) -> Mapping[str, Bar]:
        return {}

    def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment:
        n = len(candidates)
        decisions = (
            Decision(each, MODELS[0], (), _FREE, _NONE, "optimal", "", n, 0.0, 0.0)
            for each in candidates
        )
        return Assignment(tuple(decisions), "optimal")

    def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision:
        return self.assign(self.forecast([query]), _SLOTS).decisions[0]

    def preferred(self, candidate: Candidate) -> str | None:
        return MODELS[0]

    def release(self, decision: Decision, answers: Mapping[str, Answer] = NEVER_ASKED) -> None: ...
    def rest(self, model: str, seconds: float | None) -> None: ...
    def on_release(self, callback: object) -> None: ...


class Stock:
    """AIOS's FIFO scheduler, without routing and without what it loses."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._calls: queue.Queue[tuple[float, Future[float]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def submit(self, seconds: float) -> Future[float]:
        future: Future[float] = Future()
        self._calls.put((seconds, future))
        return future

    def _loop(self) -> None:
        while True:
            time.sleep(self._interval_s)
            batch = [self._calls.get() for _ in range(self._calls.qsize())]
            known = [each for each in batch if each is not None]
            with ThreadPoolExecutor(max(len(known), 1)) as pool:
                [*pool.map(lambda each: time.sleep(each[0]), known)]
            for _, future in known:
                future.set_result(time.perf_counter())
            if len(known) < len(batch):
                return

    def close(self) -> None:
        """End after the calls that are waiting."""
        self._calls.put(None)
        self._thread.join()


def dispatch(calls: int, seconds: float, faster: float, seed: int) -> list[Row]:
    """Calls a second through the dispatcher alone, and short calls among long ones.

    Args:
        calls: of the first. seconds: of the second, which runs so many times `faster`.
    """
    with Dispatcher(StubRouter()) as dispatcher:
        ours, bare = compared(
            3,
            lambda turn: timed(lambda: _through(dispatcher, calls)),
            lambda turn: timed(lambda: _bare(calls)),
            warm=1,
        )
    value, peer = (calls / percentile(took, 50) * 1e3 for took in (ours, bare))
    first = Row("dispatch", "calls through the dispatcher alone", calls, value, "calls/s",
                budget=2000.0, peer="a bare thread each", peer_value=peer,
                times_cheaper=times_cheaper(ours, bare), least=0.12)  # fmt: skip
    mine, stock = _among_long(seconds, faster, seed)
    value, peer = (percentile(waits, 95) for waits in (mine, stock))
    return [
        first,
        Row("dispatch", "p95 of 0.2 s calls among 2 s ones", len(mine), value, "s",
            budget=0.3, peer="AIOS's scheduling", peer_value=peer, least=5.0),
    ]  # fmt: skip


def _through(dispatcher: Dispatcher, calls: int) -> None:
    answer = Answer("fine", 10, 10)
    futures = [dispatcher.submit(Query("x"), lambda model, left: answer) for _ in range(calls)]
    for future in futures:
        future.result()


def _bare(calls: int) -> None:
    for _ in range(calls):
        thread = threading.Thread(target=lambda: None, daemon=True)
        thread.start()
        thread.join()


def _among_long(
    seconds: float, faster: float, seed: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds from sending to answer of the short calls, by us and by AIOS's scheduling."""
    count = round(seconds * RATE)
    long = np.random.default_rng(seed).random(count) < LONG
    took = np.where(long, LONG_S, SHORT_S) / faster
    waits: tuple[list[float], list[float]] = [], []
    stock = Stock(INTERVAL_S / faster)
    with Dispatcher(StubRouter()) as dispatcher:

        def ours(each: float) -> Future[float]:
            def run(model: str, left: float) -> Answer:
                time.sleep(each)
                return Answer("fine", 10, 10)

            done: Future[float] = Future()
            sent = dispatcher.submit(Query("x"), run)
            sent.add_done_callback(lambda _: done.set_result(time.perf_counter()))
            return done

        sent: list[tuple[float, Future[float], Future[float]]] = []
        begun = time.perf_counter()
        for number, each in enumerate(took.tolist()):
            time.sleep(max(begun + number / RATE / faster - time.perf_counter(), 0.0))
            now = time.perf_counter()
            sent.append((now, ours(each), stock.submit(each)))
        stock.close()
        for slow, (at, *done) in zip(long, sent, strict=True):
            for found, future in zip(waits, done, strict=True):
                if not slow:
                    found.append((future.result() - at) * faster)
    return waits
