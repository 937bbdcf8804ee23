"""The demo: agents send recorded questions through the dispatcher to replay servers.

Everything on the way is real (embedder, Chroma, Redis, HTTP, threads); only the models are
replayed, with the recorded correctness, length and, in proportion to length, time.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos import metrics
from aios_eccos.config import Floor, Settings
from aios_eccos.forecast.pricing import Prices, price_table
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.lab.replay_server import ReplayServers, graded, seconds_per_token
from aios_eccos.locate import Config, Location
from aios_eccos.records import Record
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.router import Router
from aios_eccos.values import Answer, CallResult, Failure, Model, Query

#: A replayed answer that takes longer is lost.
HTTP_TIMEOUT_S = 120.0
#: Records embedded and stored between two looks at the progress bar.
BATCH = 64
#: Without a speed-up of the caller's, the mean recorded answer takes this long, seconds.
MEAN_ANSWER_S = 0.15
#: How the reason of a decision begins that limits forced (see `aios_eccos.reason`).
BEST_LEFT = "the best left"
#: What `speedup` is against: output tokens a second of an ordinary hosted model.
USUAL_TOKENS_PER_S = 100.0


def draw_calls(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """`count` records in a seeded order; all of them again, reshuffled, if there are fewer."""
    draw = random.Random(seed)
    calls: list[Record] = []
    while len(calls) < count:
        calls += draw.sample(records, len(records))
    return calls[:count]


def run_demo(
    models: Sequence[Model],
    history: Sequence[Record],
    calls: Sequence[Record],
    *,
    cache: EmbeddingCache,
    floor: Floor,
    agents: int,
    speedup: float | None,
    state_dir: Path,
    progress: Callable[[str, int], None],
) -> list[dict[str, Any]]:
    """Run every strategy over the same calls, with embedded Redis and Chroma in `state_dir`.

    Args:
        cache: of the history's embeddings; live calls are embedded anew, as in a kernel.
        progress: called with the current step's name and how much of it was just done.

    Returns:
        The `strategies` of the demo's JSON.
    """
    location = Location(None, None, state_dir, "demo")
    settings = Settings(quality_floor=floor, predictor="retrieval")
    names = [model.name for model in models]
    if speedup is None:
        pace = seconds_per_token(calls, names, MEAN_ANSWER_S)
    else:
        pace = 1 / (USUAL_TOKENS_PER_S * speedup)
    with Engine(Config(location, settings, ()), models=models) as engine:
        engine.wait_ready()
        if engine.history is None or engine.embedder is None:
            raise engine.history_error or RuntimeError("the history did not open")
        live = engine.embedder.wait()
        embedder = CachedEmbedder(live, cache)
        for start in range(0, len(history), BATCH):
            part = history[start : start + BATCH]
            engine.history.add(part, embedder.embed([record.text for record in part]))
            progress("history", len(part))
        engine.learn()
        with ReplayServers(calls, names, pace) as servers:
            return [
                run_strategy(
                    strategy,
                    engine.router,
                    servers,
                    calls,
                    agents=agents,
                    on_answer=lambda name=strategy.name: progress(name, 1),  # type: ignore[misc]
                )
                for strategy in strategies(models, history)
            ]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to choose: `pin` names the model of the i-th call, None lets the router decide."""

    name: str
    pin: Callable[[int], str | None]


def strategies(models: Sequence[Model], history: Sequence[Record]) -> list[Strategy]:
    """ECCOS and its three plain rivals, judged on history only.

    Strongest = highest mean correctness, cheapest = lowest mean cost (of a model without a price:
    see `Prices`); ties by name.
    """
    names = [model.name for model in models]
    prices = price_table(models)
    cheapest = min(names, key=lambda name: (_mean_cost(history, prices, name), name))
    strongest = min(names, key=lambda name: (-_mean_success(history, name), name))
    return [
        Strategy("eccos", lambda i: None),
        Strategy("round_robin", lambda i: names[i % len(names)]),
        Strategy("cheapest", lambda i: cheapest),
        Strategy("strongest", lambda i: strongest),
    ]


def run_strategy(
    strategy: Strategy,
    router: Router,
    servers: ReplayServers,
    calls: Sequence[Record],
    *,
    agents: int,
    on_answer: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Let `agents` agents send the calls, each its own share one after another.

    Returns:
        One entry of the demo's JSON (see `summarize`).
    """
    servers.reset()
    settled: list[CallResult | None] = [None] * len(calls)
    with (
        _Client(servers) as client,
        Dispatcher(router, window_s=router.settings.window_ms / 1000) as dispatcher,
    ):

        def agent(number: int) -> None:
            for i in range(number, len(calls), agents):
                pinned = strategy.pin(i)
                query = Query(
                    text=calls[i].text,
                    agent=f"agent-{number:02d}",
                    input_tokens=calls[i].input_tokens,
                    allowed=(pinned,) if pinned is not None else None,
                )
                future = dispatcher.submit(query, client.runner(calls[i].text))
                settled[i] = future.result()
                on_answer()

        threads = [threading.Thread(target=agent, args=(n,), daemon=True) for n in range(agents)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = servers.stats()
    over = [call for call in settled if call is not None]
    peaks = {model.name: stats[model.name].peak_in_flight for model in router.models}
    return summarize(strategy.name, calls, over, router.models, peaks)


def summarize(
    name: str,
    calls: Sequence[Record],
    settled: Sequence[CallResult],
    models: Sequence[Model],
    peaks: dict[str, int],
) -> dict[str, Any]:
    """What a strategy did: success and promised success (means), dollars, seconds, peaks.

    Dollars are None where no price is known. `floor` is the success asked for, as an absolute
    value; `limited` the share of calls that took another model because theirs was at its limit.
    Both, like the promise, are None where calls were pinned.
    """
    prices = price_table(models)
    records = {record.text: record for record in calls}
    answered = [s for s in settled if s.answer.failure is None and s.decision is not None]
    cost = math.fsum(
        _cost(prices, s.decision.model or "", records[s.query.text], s.answer.output_tokens)
        for s in answered
        if s.decision is not None
    )
    success = [float(s.answer.value) for s in answered if s.answer.value is not None]
    # A pinned call is not forecast, so nothing was promised of it.
    free = [
        s.decision
        for s in answered
        if s.decision is not None and s.decision.candidate.allowed.sum() > 1
    ]
    limited = [decision.reason.startswith(BEST_LEFT) for decision in free]
    decisions = [s.decision.decision_s for s in answered if s.decision is not None]
    waits = [s.waited_s for s in answered]
    latencies = [s.waited_s + s.served_s for s in answered]
    return {
        "name": name,
        "calls": len(calls),
        "answers": len(answered),
        "success": _mean(success),
        "promised_success": _mean([decision.promised for decision in free]),
        "floor": _mean([decision.candidate.worth.floor for decision in free]),
        "limited": _mean(limited),
        "cost_usd": _rounded(cost) if prices.money else None,
        **_percentiles("wait", waits, (50, 95)),
        **_percentiles("latency", latencies, (50, 95)),
        **_percentiles("decision", decisions, (50, 99)),
        "peak_in_flight": peaks,
        "limits": {model.name: model.limit for model in models},
    }


class _Client:
    """Asks the replay servers over HTTP, one kept-alive connection a thread of the pool."""

    def __init__(self, servers: ReplayServers) -> None:
        import httpx

        self._http = httpx.Client(
            timeout=HTTP_TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_connections=None)
        )
        self._errors = httpx.HTTPError
        self._servers = servers

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def runner(self, text: str) -> Callable[[str, float], Answer]:
        """What the dispatcher runs: one chat completion, whose value is the recorded grade."""

        def run(model: str, left: float) -> Answer:
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            url = self._servers.url(model) + "/chat/completions"
            try:
                response = self._http.post(url, json=body)
            except self._errors as error:
                return Answer(failure=Failure(type(error).__name__, 502))
            if response.status_code != 200:
                return Answer(failure=Failure(str(response.status_code), response.status_code))
            answer = response.json()
            return Answer(
                value=graded(answer["choices"][0]["message"]["content"]),
                input_tokens=answer["usage"]["prompt_tokens"],
                output_tokens=answer["usage"]["completion_tokens"],
            )

        return run


def _cost(prices: Prices, model: str, record: Record, output_tokens: int | None) -> float:
    column = prices.models.index(model)
    spent_in = record.input_tokens * prices.input[column]
    return float(spent_in + (output_tokens or 0) * prices.output[column])


def _mean_cost(history: Sequence[Record], prices: Prices, name: str) -> float:
    """Of a model that the history does not know: infinite."""
    costs = [
        _cost(prices, name, record, outcome.output_tokens)
        for record in history
        for outcome in record.outcomes
        if outcome.model == name and outcome.output_tokens is not None
    ]
    return float(np.mean(costs)) if costs else math.inf


def _mean_success(history: Sequence[Record], name: str) -> float:
    """Of a model that the history does not know: 0."""
    success = [
        outcome.correctness
        for record in history
        for outcome in record.outcomes
        if outcome.model == name and outcome.correctness is not None
    ]
    return float(np.mean(success)) if success else 0.0


def _mean(values: Sequence[float]) -> float | None:
    found = metrics.mean(math.fsum(values), len(values))
    return None if found is None else _rounded(found)


def _percentiles(name: str, values: Sequence[float], which: Sequence[int]) -> dict[str, Any]:
    return {
        f"{name}_p{q}_s": _rounded(np.percentile(values, q) if len(values) else math.nan)
        for q in which
    }


def _rounded(value: float | np.floating[Any]) -> float | None:
    """Six significant digits; None for NaN, which JSON has no word for."""
    return None if math.isnan(value) else float(f"{value:.6g}")
