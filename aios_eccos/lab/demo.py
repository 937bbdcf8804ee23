"""The demo: agents send recorded questions through the dispatcher to replay servers.

Everything on the way is real (embedder, Chroma, Redis, HTTP, threads); only models are replayed.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.config import Floor, Settings
from aios_eccos.forecast.pricing import price_table
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.history.mirror import build_table
from aios_eccos.lab.baselines import BLIND
from aios_eccos.lab.problem import column_means
from aios_eccos.lab.replay_server import ReplayServers, graded, seconds_per_token
from aios_eccos.locate import Config, Location
from aios_eccos.metrics import mean_of
from aios_eccos.observe.shape import clean
from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import failure_of
from aios_eccos.providers.transport import HttpProvider, Provider
from aios_eccos.records import Record
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.router import Router
from aios_eccos.serve.tracing import trace_of
from aios_eccos.values import Answer, CallResult, Model, Query

#: A replayed answer that takes longer is lost.
HTTP_TIMEOUT_S = 120.0
STRATEGIES = ("eccos", *BLIND)
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What is run; `speedup` is against `USUAL_TOKENS_PER_S`, None: a mean of `MEAN_ANSWER_S`."""

    models: Sequence[Model]
    history: Sequence[Record]
    calls: Sequence[Record]
    floor: Floor
    agents: int
    speedup: float | None


def run_demo(
    asked: Asked, *, cache: EmbeddingCache, state_dir: Path, progress: Callable[[str, int], None]
) -> list[dict[str, Any]]:
    """Run every strategy over the same calls, with embedded Redis and Chroma in `state_dir`.

    The history's embeddings are cached; live calls are embedded anew, as in a kernel. `progress` is
    called with the current step's name and how much of it was just done.
    """
    location = Location(None, None, state_dir, "demo")
    settings = Settings(quality_floor=asked.floor, predictor="retrieval")
    names = [model.name for model in asked.models]
    if asked.speedup is None:
        pace = seconds_per_token(asked.calls, names, MEAN_ANSWER_S)
    else:
        pace = 1 / (USUAL_TOKENS_PER_S * asked.speedup)
    with Engine(Config(location, settings, ()), models=asked.models) as engine:
        engine.wait_ready()
        if engine.history is None or engine.embedder is None:
            raise engine.upkeep.error or RuntimeError("the history did not open")
        embedder = CachedEmbedder(engine.embedder.wait(), cache)
        for start in range(0, len(asked.history), BATCH):
            part = asked.history[start : start + BATCH]
            engine.history.add(part, embedder.embed([record.text for record in part]))
            progress("history", len(part))
        engine.learn()
        with ReplayServers(asked.calls, names, pace) as servers:
            return [
                run_strategy(name, plan, asked, engine.router, servers, progress)
                for name, plan in plans(asked.models, asked.history, len(asked.calls)).items()
            ]


def plans(
    models: Sequence[Model], history: Sequence[Record], count: int
) -> dict[str, list[str | None]]:
    """The model of each of `count` calls by strategy, judged on history; None: the router's."""
    table = build_table(history, np.zeros((len(history), 1), dtype=np.float32))
    names = sorted(model.name for model in models)
    # The column past the last one is that of a model that the history does not know.
    columns = [[*table.models, *names].index(name) for name in names]
    success, tokens = (
        np.pad(values, ((0, 0), (0, len(names))), constant_values=np.nan)[:, columns]
        for values in (table.correctness, table.output_tokens)
    )
    cost = price_table(models).select(names).cost(table.input_tokens, tokens)
    means = column_means(success), column_means(cost)
    rivals = {rule: [names[j] for j in choose(*means, count)] for rule, choose in BLIND.items()}
    return {"eccos": [None] * count, **rivals}


def run_strategy(
    name: str,
    plan: Sequence[str | None],
    asked: Asked,
    router: Router,
    servers: ReplayServers,
    progress: Callable[[str, int], None],
) -> dict[str, Any]:
    """Let the agents send the calls, each its own share one after another (see `summarize`)."""
    servers.reset()
    calls = asked.calls
    settled: list[CallResult | None] = [None] * len(calls)
    with (
        ExitStack() as stack,
        Dispatcher(router, router.settings) as dispatcher,
    ):
        providers = {
            model.name: stack.enter_context(closing(HttpProvider(servers.url(model.name))))
            for model in router.models
        }

        def agent(number: int) -> None:
            for i in range(number, len(calls), asked.agents):
                text, pinned = calls[i].text, plan[i]
                allowed = (pinned,) if pinned is not None else None
                who, tokens = f"agent-{number:02d}", calls[i].input_tokens
                query = Query(text, agent=who, input_tokens=tokens, allowed=allowed)
                settled[i] = dispatcher.submit(query, _asking(providers, text)).result()
                progress(name, 1)

        numbers = range(asked.agents)
        threads = [threading.Thread(target=agent, args=(n,), daemon=True) for n in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = servers.stats()
    over = [call for call in settled if call is not None]
    peaks = {model.name: stats[model.name].peak_in_flight for model in router.models}
    return summarize(name, len(calls), over, router.models, peaks)


def summarize(
    name: str,
    calls: int,
    settled: Sequence[CallResult],
    models: Sequence[Model],
    peaks: dict[str, int],
) -> dict[str, Any]:
    """A strategy's entry of the JSON: success and promise (means), dollars, seconds, peaks.

    Dollars are None where no price is known. `floor` is absolute; `limited` the share of calls that
    took another model because theirs was at its limit. Of pinned calls nothing was promised.
    """
    prices = price_table(models)
    answered = [s for s in settled if s.answer.failure is None]
    traces = [trace_of(result, prices) for result in answered]
    success = [float(s.answer.value) for s in answered if s.answer.value is not None]
    # A pinned call is not forecast, so nothing was promised of it.
    free = [trace for trace in traces if not trace.named]
    cost = math.fsum(trace.cost_usd or 0.0 for trace in traces)
    found = {
        "name": name,
        "calls": calls,
        "answers": len(answered),
        "success": mean_of(success),
        "promised_success": mean_of([t.promised for t in free if t.promised is not None]),
        "floor": mean_of([t.floor for t in free if t.floor is not None]),
        "limited": mean_of([t.reason.startswith(BEST_LEFT) for t in free]),
        "cost_usd": cost if prices.money else None,
        **_percentiles("wait", [t.waited_s for t in traces], (50, 95)),
        **_percentiles("latency", [t.waited_s + t.served_s for t in traces], (50, 95)),
        **_percentiles("decision", [t.decision_s for t in traces], (50, 99)),
        "peak_in_flight": peaks,
        "limits": {model.name: model.limit for model in models},
    }
    cleaned: dict[str, Any] = clean(found)
    return cleaned


def _asking(providers: Mapping[str, Provider], text: str) -> Callable[[str, float], Answer]:
    """What the dispatcher runs: one chat completion, whose value is the recorded grade."""

    def ask(model: str, left: float) -> Answer:
        request = {"model": model, "messages": [{"role": "user", "content": text}]}
        try:
            found = read(providers[model].complete(request, min(left, HTTP_TIMEOUT_S)))
        except Exception as error:  # noqa: BLE001 - a client may raise anything
            return Answer(failure=failure_of(error))
        return Answer(graded(found.text or ""), found.input_tokens, found.output_tokens)

    return ask


def _percentiles(name: str, values: Sequence[float], which: Sequence[int]) -> dict[str, float]:
    return {f"{name}_p{q}_s": np.percentile(values, q) if values else math.nan for q in which}
