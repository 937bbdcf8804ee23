"""What `init` proposes for an AIOS configuration: settings, keys of models, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aios_eccos.config import ModelEntry
from aios_eccos.errors import shown_address
from aios_eccos.forecast.predictor import prior_success
from aios_eccos.forecast.pricing import with_facts
from aios_eccos.values import Ability, Model, dollars_known

#: Seconds that a server may take to say what it has.
ASK_S = 2.0
#: No answer about a server is longer.
MOST_BYTES = 1_000_000
#: Largest number that a server is believed to have of slots or tokens.
MOST = 10_000_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """One line to write: a key of the model's entry, or, without a model, of the `eccos` block.

    Attributes:
        value: as YAML has it. why: in words.
    """

    model: str | None
    key: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Served:
    """What a model's server says of it: slots, window, abilities; None = it does not say."""

    slots: int | None = None
    window: int | None = None
    remark: str = ""
    abilities: tuple[Ability, ...] | None = None


def propose(
    entries: Sequence[ModelEntry], block: Mapping[str, Any], served: Mapping[str, Served]
) -> Iterator[Proposal]:
    """What the file does not say yet, the models' keys first.

    Args:
        block: the `eccos` block as it is. served: what servers say, by model; may be empty.
    """
    models = [with_facts(entry.model(), entry.backend) for entry in entries]
    mixed = any(model.price_state == "priced" for model in models)
    pool = []
    for entry, model in zip(entries, models, strict=True):
        free = model.price_state == "unknown" and mixed and entry.is_local
        yield from _of_model(entry, model, served.get(entry.name, Served()), free)
        pool.append(replace(model, input_price=0.0, output_price=0.0) if free else model)
    yield from (each for each in _of_pool(pool) if each.key not in block)


def _of_model(entry: ModelEntry, model: Model, served: Served, free: bool) -> Iterator[Proposal]:
    if entry.concurrency is None:
        why = f"what servers of {entry.backend or 'its kind'} do at once by default"
        if served.slots:
            why = "the slots that its server says it has"
        yield Proposal(model.name, "concurrency", str(served.slots or model.limit), why)
    if entry.context_window is None and served.window:
        why = "the window that its server was started with"
        yield Proposal(model.name, "context_window", str(served.window), why)
    if model.abilities is None and served.abilities is not None:
        why = "its chat template has no place for tools: its server would leave them out"
        yield Proposal(model.name, "abilities", json.dumps([*served.abilities]), why)
    if free:
        for key in ("input_cost_per_token", "output_cost_per_token"):
            why = "it runs on a machine of yours; unknown, it would count as the dearest"
            yield Proposal(model.name, key, "0", why)


def _of_pool(models: Sequence[Model]) -> Iterator[Proposal]:
    if len(models) < 2:
        return
    success = prior_success(models)
    best = models[int(np.argmax(success))].name
    if dollars_known(models) and any(model.price_state == "priced" for model in models):
        why = "savings are earned without labels, by copies of calls in free slots"
        yield Proposal(None, "audit", "5 %", why)
        why = "the strongest by price or declared strength compares answers that differ"
        yield Proposal(None, "judge", json.dumps(best, ensure_ascii=False), why)
    if len(models) > 2:
        why = "two cheap models and an escape, where the history shows that they pay"
        yield Proposal(None, "plans", "auto", why)


def ask(entry: ModelEntry) -> Served:
    """Ask a model's server: OpenAI's list of models, and llama.cpp's properties."""
    if entry.hostname is None:
        return Served()
    base = entry.hostname.rstrip("/").removesuffix("/v1")
    listed, properties = _get(f"{base}/v1/models"), _get(f"{base}/props")
    if listed is None:
        return Served(remark=f"{shown_address(entry.hostname)} does not answer")
    rows = [row for row in _list(listed.get("data")) if isinstance(row, dict)]
    mine = next((row for row in rows if row.get("id") == entry.name), {})
    remark = "" if mine or not rows else f"its server has no model of the name {entry.name}"
    found = properties or {}
    generation = found.get("default_generation_settings")
    inner = generation if isinstance(generation, dict) else {}
    window = _count(mine.get("max_model_len")) or _count(inner.get("n_ctx"))
    return Served(_count(found.get("total_slots")), window, remark, _abilities(found))


def _abilities(properties: Mapping[str, Any]) -> tuple[Ability, ...] | None:
    """What llama.cpp says that a model can do, where that is not all; JSON it makes any write."""
    template, modalities = properties.get("chat_template_caps"), properties.get("modalities")
    known = template if isinstance(template, dict) else {}
    if {known.get("supports_tools"), known.get("supports_tool_calls")} != {False}:
        return None
    sees = isinstance(modalities, dict) and modalities.get("vision") is True
    return ("json", "vision") if sees else ("json",)


def _get(url: str) -> dict[str, Any] | None:
    """A JSON object that a server gives; None where it gives none. It is hostile until read."""
    import httpx

    from aios_eccos.providers.bounds import within
    from aios_eccos.providers.failures import Broken

    try:
        way = httpx.HTTPTransport(trust_env=False)
        with (
            within(ASK_S, MOST_BYTES),
            httpx.Client(transport=way, timeout=ASK_S, trust_env=False) as client,
        ):
            got = client.get(url)
        found = json.loads(got.content) if got.status_code == 200 else None
    except (httpx.HTTPError, httpx.InvalidURL, Broken, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value <= MOST else None  # type: ignore[operator, return-value]
