"""What a call takes: a slot, requests and tokens of a minute, dollars of a day or a month."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aios_eccos.values.plan import Plan

#: HTTP statuses of calls that rates, and money, refuse.
TOO_MANY, NO_MONEY = 429, 402
#: A cap that is not to keep anybody.
LIFTED_USD = 1e6
#: Money is counted in billionths of a dollar, so that sums stay exact.
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model's server takes in a minute, over all kernels; None = as much as one likes."""

    rpm: int | None = None
    tpm: int | None = None


@dataclass(frozen=True, slots=True)
class Cap:
    """Most that may be spent by some agents in one day or month.

    Attributes:
        name: of whom and how often, as it is shown.
        key: name and period, under which kernels count the spending together.
        usd: dollars.
        ends: seconds since the epoch at which a new period begins.
        may_pass: whether calls at the cap go to the cheapest model instead of nowhere.
    """

    name: str
    key: str
    usd: float
    ends: float
    may_pass: bool = False

    @property
    def nano(self) -> int:
        """The cap in billionths of a dollar."""
        return math.floor(self.usd * NANO + 0.5)

    def lifted(self) -> Cap:
        """The same, so high that nobody reaches it: what is spent is still counted."""
        return replace(self, usd=LIFTED_USD)


@dataclass(frozen=True, slots=True)
class Need:
    """What one request is forecast to take; it is reserved with the request's slot.

    Attributes:
        tokens: of its prompt and its expected answer.
        usd: dollars that it costs at most in nine of ten cases.
        caps: what the dollars count against.
        id: of this reservation, which is settled once.
    """

    tokens: int = 0
    usd: float = 0.0
    caps: tuple[Cap, ...] = ()
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])

    @property
    def nano(self) -> int:
        """The dollars in billionths, rounded up."""
        return math.ceil(self.usd * NANO - 1e-6)


@dataclass(frozen=True, slots=True)
class Used:
    """What a request has really taken; one that was never made has taken nothing."""

    requests: int = 1
    tokens: int = 0
    usd: float = 0.0

    @property
    def nano(self) -> int:
        """The dollars in billionths, rounded up."""
        return math.ceil(self.usd * NANO - 1e-6)


@dataclass(frozen=True, slots=True)
class Spent:
    """Dollars of a cap that are gone, and that calls in flight hold.

    Attributes:
        beyond_usd: by how much calls have cost more than they held: by no more can a cap be passed.
    """

    usd: float = 0.0
    held_usd: float = 0.0
    beyond_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """What keeps a call from a model now.

    Attributes:
        words: follow the model's name.
        status: HTTP status of a call that nothing else can serve.
        lifts: `time.monotonic()` before which it is not lifted.
        waits: whether it is worth waiting for: a limit that refills.
    """

    words: str
    status: int
    lifts: float = math.inf
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Slots:
    """The models' load at one moment, over all kernels.

    Attributes, by model name:
        free: slots left, 0 or more; limits: slots in all.
        cooling: seconds that it still rests after an error; used only where nothing else may serve.
        closed: seconds for which its server has asked to be left alone.
        rates: those that hold, where any are declared; requests: of the last minute.
        tokens: left of the minute, where they are limited.
        opens: seconds until the first of the last minute's requests and tokens come back.
        spent: by a cap's key, what is spent under it.

    `recalled`: this was known without asking, so that another kernel may have taken slots since.
    """

    free: Mapping[str, int]
    limits: Mapping[str, int]
    cooling: Mapping[str, float] = field(default_factory=dict)
    closed: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, Rates] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    opens: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    recalled: bool = False

    def room(self, plan: Plan) -> int:
        """Calls that could start on a plan now."""
        return min(self.free[name] for name in plan.members)


@dataclass(frozen=True, slots=True)
class Lease:
    """One slot of one model, lent to one call until it is released or expires.

    Attributes:
        call_id: the query's id; no two attempts of a call hold a slot of one model.
        slot: `Model.slot` of the lender.
        need: what is reserved with the slot; None where nothing but slots is limited.
    """

    call_id: str
    slot: str
    need: Need | None = field(default=None, compare=False)
