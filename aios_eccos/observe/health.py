"""What `doctor` says of the plugin itself: prices, embedder, history, Redis, clocks, limits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aios_eccos.config import Settings
from aios_eccos.errors import EccosError, HistoryOwned
from aios_eccos.floor.configured import unkept_budget, unpriced_cap
from aios_eccos.locate import Config
from aios_eccos.metrics import percent
from aios_eccos.observe.opened import history_of, workload_of
from aios_eccos.observe.trace import read_traces
from aios_eccos.serve.canary import NOTE, State
from aios_eccos.serve.spans import lacking
from aios_eccos.values import Model
from aios_eccos.workload.store import Ledger, WorkloadStore

#: Clocks that differ by more make times in reports misleading; limits go by the server's clock.
SKEW_S = 2.0

#: Decisions that are looked at for what was read of their prompts.
LOOKED_AT = 200

#: Dollars per token; price lists per thousand tokens say such numbers, hardly a model costs them.
DEAR = 1e-3


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`.

    Attributes:
        ok: None = worth knowing, or could not be looked at; no fault.
        detail: what was found; for a fault, what to do.
    """

    name: str
    ok: bool | None
    detail: str


def check_plugin(config: Config, models: Sequence[Model]) -> Iterator[Check]:
    """All of it, for models with prices filled in; slow where the history has to be opened."""
    yield check_prices(models)
    yield from check_budget(config.settings, models)
    yield from check_caps(config.settings, models)
    yield from check_private(config.settings, models)
    yield from check_otel(config.settings)
    yield from check_history(config)
    yield from check_workload(config, models)


def check_prices(models: Sequence[Model]) -> Check:
    """Which models have no price, or one that is hardly per token."""
    unknown = [model.name for model in models if model.price_state == "unknown"]
    if not models:
        return Check("prices", None, "no models are configured")
    if unknown:
        stand_in = "each counts as the dearest known one"
        if len(unknown) == len(models):
            stand_in = "costs are counted in tokens by model size"
        remedy = "set input_cost_per_token and output_cost_per_token (0 = free)"
        return Check("prices", None, f"unknown for {', '.join(unknown)}; {stand_in}: {remedy}")
    dear = [m.name for m in models if max(m.input_price or 0, m.output_price or 0) >= DEAR]
    if dear:
        detail = f"{', '.join(dear)}: more than $1 per thousand tokens; prices are per token"
        return Check("prices", None, f"{detail}, so divide one per thousand by 1,000")
    return Check("prices", True, f"{len(models)} models priced or declared free")


def check_budget(settings: Settings, models: Sequence[Model]) -> Iterator[Check]:
    """Whether the budget, if there is one, can be kept."""
    unkept = unkept_budget(settings, models)
    if unkept is not None or settings.budget_per_call is not None:
        yield Check("budget", unkept is None, unkept or "its models have prices")


def check_caps(settings: Settings, models: Sequence[Model]) -> Iterator[Check]:
    """Whether caps on spending, if there are any, can be kept."""
    fault = unpriced_cap(settings, models)
    if fault is not None or settings.all_caps(0.0):
        yield Check("max_cost", fault is None, fault or "its models have prices")


def check_private(settings: Settings, models: Sequence[Model]) -> Iterator[Check]:
    """Which models private agents may use, if there are private agents."""
    patterns = [name for name, policy in settings.agents.items() if policy.private]
    if not patterns:
        return
    local = [model.name for model in models if model.local]
    lacks = "no model is local, so their calls are refused (403): set local: true in an entry"
    may = f"may use {', '.join(local)} alone" if local else lacks
    yield Check("private agents", bool(local), f"{', '.join(patterns)} {may}")


def check_otel(settings: Settings) -> Iterator[Check]:
    """Whether spans can be made, if they are wanted."""
    if settings.otel:
        fault = lacking()
        yield Check("otel", fault is None, fault or "each call is a span of OpenTelemetry")


def check_history(config: Config) -> Iterator[Check]:
    """Whether the embedder is found, and the history opens with it."""
    from aios_eccos.history.embed.embedding import find_embedder

    try:
        source = find_embedder(config.settings.embedder)
        yield Check("embedder", True, f"{source.name} ({source.found_in})")
        with history_of(config) as history:
            yield Check("history", True, f"{history.count():,} records, of this embedder")
    except HistoryOwned:
        yield Check("history", None, "open in a living kernel, whose `status` shows its size")
    except EccosError as error:
        yield Check("history", False, str(error))


def check_workload(config: Config, models: Sequence[Model]) -> Iterator[Check]:
    """Whether Redis answers, its clock is ours, and the kernels on it agree on limits."""
    if config.settings.redis == "memory":
        yield Check("redis", None, "redis: memory: limits hold in one process, nothing is kept")
        return
    try:
        with workload_of(config) as workload:
            yield from _living(workload, models)
            yield from check_canary(config.settings, workload)
    except EccosError as error:
        yield Check("redis", False, f"{error}; check the setting redis")


def check_canary(settings: Settings, ledger: Ledger) -> Iterator[Check]:
    """How a canary stands, if there is one."""
    if settings.mode == "canary":
        state = State.of(*ledger.notes([NOTE]))
        if state is None or state.stands == "trial":
            yield Check("canary", True, f"{percent(settings.canary_share)} are routed, on trial")
        elif state.stands == "promoted":
            yield Check("canary", True, f"promoted, so that all are routed: {state.why}")
        else:
            again = "`aios-eccos mode canary` begins anew"
            yield Check(
                "canary", None, f"rolled back, so that none is routed: {state.why}; {again}"
            )


def _living(workload: WorkloadStore, models: Sequence[Model]) -> Iterator[Check]:
    begun = time.time()
    skew = workload.clock() - (begun + time.time()) / 2
    yield Check("redis", True, f"answers in {(time.time() - begun) * 1000:.1f} ms")
    for warning in workload.warnings():
        yield Check("redis", False, warning)
    waiting, aside = workload.inbox_sizes()
    if aside:
        detail = f"{aside} messages could not be carried out and are set aside for a week; the log"
        yield Check("inbox", None, f"{detail} of the kernel says why; {waiting} more wait")
    off = f"Redis' clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    aligned = abs(skew) <= SKEW_S
    yield Check("clock", aligned, "agrees with Redis" if aligned else f"{off}; synchronize by NTP")
    rates = {model.slot: model.rates for model in models}
    loads = workload.loads({model.slot: model.limit for model in models}, rates)
    limits = [
        (f"{model.name}{key}", own, least)
        for model in models
        for load in [loads[model.slot]]
        for key, own, least in (
            ("", model.limit, load.limit),
            (" rpm", model.rates.rpm, load.rates.rpm),
            (" tpm", model.rates.tpm, load.rates.tpm),
        )
    ]
    smaller = [
        f"{name} {least} instead of {'none' if own is None else own}"
        for name, own, least in limits
        if least is not None and (own is None or least < own)
    ]
    yield from _read(workload)
    detail = f"{workload.kernels} kernel(s) agree"
    if smaller:
        detail = "another kernel declares less, and the least holds: "
        detail += f"{', '.join(smaller)}; set concurrency, rpm and tpm alike"
    yield Check("limits", not smaller, detail)


def _read(workload: WorkloadStore) -> Iterator[Check]:
    """What the last calls were forecast on."""
    found = [trace.reading for trace in read_traces(workload.decisions(LOOKED_AT))]
    read = [reading for reading in found if reading is not None]
    parts = [reading for reading in read if reading.rule != "whole"]
    if not read:
        return
    detail = f"of the last {len(read)} calls, {len(parts)} are forecast on a part of their prompt"
    if parts:
        rules = Counter(reading.rule for reading in parts)
        said = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
        taken = sum(reading.end - reading.start for reading in parts) / len(parts)
        whole = sum(reading.of for reading in parts) / len(parts)
        detail += f" ({said}): {taken:,.0f} of {whole:,.0f} characters on average"
    yield Check("prompts", True, detail)
