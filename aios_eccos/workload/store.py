"""What a workload store does, one protocol a capability; a consumer asks for what it needs.

All methods are safe to call from any thread, and raise `WorkloadError` when the store cannot be
used. `once` names a write: a second write of that name within `REMEMBERED_S` changes nothing and
returns what the first one did, so that one whose answer came too late can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from aios_eccos.errors import DataError
from aios_eccos.values import Cap, Lease, Rates, Spent, Used
from aios_eccos.workload.periods import PeriodSums

#: Seconds for which a store knows a write by its name.
REMEMBERED_S = 600
#: A least and a greatest price.
Ends = tuple[float, float]
#: Limits and rates that a kernel declares, by slot.
Declares = tuple[Mapping[str, int], Mapping[str, Rates]]
#: A price outside this range could never move back by finite steps.
PRICE_RANGE: Ends = (1e-300, 1e300)
#: Seconds for which what a request takes counts: a minute, and a second on each side, because
#: servers see a request later than we lend it.
WINDOW_S = 62
#: No rates are declared.
NO_RATES: Mapping[str, Rates] = MappingProxyType({})
#: Longest rest of a model, seconds.
REST_MOST_S = 86_400.0
#: Largest message of the inbox, and bytes of messages that are taken together: a kernel gives
#: Redis 50 ms.
MESSAGE_BYTES, TAKEN_BYTES = 16_000_000, 1_000_000
#: Messages set aside that are kept, and for how long.
ASIDE_KEPT, ASIDE_S = 100, 7 * 86_400
#: About how many decisions and events are kept.
DECISIONS_KEPT, EVENTS_KEPT = 10_000, 1_000


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the slots of one model are.

    Attributes:
        in_use: slots lent out now, by all kernels.
        limit: the smallest that a living kernel declares.
        cooling_s: seconds that the model still rests after an error.
        rates: that hold, the smallest that living kernels declare.
        requests, tokens: taken within the last minute.
        opens_s: seconds until the first of these come back.
        closed_s: seconds for which its server has asked to be left alone.
    """

    in_use: int
    limit: int
    cooling_s: float
    rates: Rates = field(default_factory=Rates)
    requests: int = 0
    tokens: int = 0
    opens_s: float = 0.0
    closed_s: float = 0.0

    @property
    def free(self) -> int:
        """Calls that may be lent slots now, whatever their tokens; never below zero."""
        left = self.limit - self.in_use
        if self.rates.rpm is not None:
            left = min(left, self.rates.rpm - self.requests)
        return max(0, left) if self.closed_s <= 0 else 0

    @property
    def tokens_left(self) -> float:
        """Tokens that may be lent now; infinite without a limit."""
        return math.inf if self.rates.tpm is None else max(0, self.rates.tpm - self.tokens)


class Loads(Protocol):
    """How busy models are, and who shares them."""

    @property
    def degraded(self) -> bool:
        """True while the shared store is unreachable and local limits stand in for it."""

    @property
    def kernels(self) -> int:
        """Kernels known to use the store, this one among them; at least 1."""

    def loads(
        self, limits: Mapping[str, int], rates: Mapping[str, Rates] = NO_RATES
    ) -> dict[str, Load]:
        """The load of each slot in `limits`, in one round trip; declares nothing."""

    def spent(self, caps: Sequence[Cap]) -> list[Spent]:
        """What is spent under each cap, by all kernels, in one round trip."""


class SlotStore(Loads, Protocol):
    """Lends slots of models to calls, and says which models rest.

    `limits` maps a slot to the limit that this kernel declares for it, `rates` to what its server
    takes in a minute; of what living kernels declare, the smallest holds.
    """

    def acquire(
        self,
        leases: Sequence[Lease],
        limits: Mapping[str, int],
        rates: Mapping[str, Rates] = NO_RATES,
    ) -> list[bool]:
        """Take slots for a whole batch in one round trip; the i-th answer is for the i-th lease.

        With its slot a lease takes a request, and its need's tokens and dollars: all of it or
        nothing. So do leases of one call that stand together. A full slot is refused; one that
        cools down is not, because only the asker knows whether another model may serve the call.
        A lease that is already held is granted again. Without leases, limits that this kernel has
        declared are declared anew: while a full slot is refused, no lease would do that.

        Raises:
            ValueError: a lease's slot has no limit.
        """

    def recall(self, declared: Declares, calls: int) -> dict[str, Load] | None:
        """The loads without asking, where they are known and leave room for `calls` everywhere."""

    def settle(self, used: Sequence[tuple[Lease, Used]]) -> None:
        """Count what requests have really taken instead of their needs; once for each need."""

    def release(self, leases: Sequence[Lease]) -> None:
        """Give slots back and wake who waits for one; what is not held is ignored."""

    def renew(self) -> None:
        """Prolong all leases that this process holds, in one round trip; lost ones come back."""

    def cool_down(self, slot: str, seconds: float, *, closed: bool = False) -> None:
        """Tell every kernel that the model rests; the longer of two waits holds, 0 ends it.

        `closed`: its server has asked for that, so nothing is lent in the meantime.
        """

    def on_release(self, callback: Callable[[], None]) -> None:
        """Call back, from a background thread, after releases by any kernel, this one included.

        Of those by others, where a call may have waited for what came back. Several may be told by
        one call. The callback must be short and must not raise.
        """


class PriceStore(Protocol):
    """Prices that all kernels share."""

    def read_prices(self, age_s: float = 0.0) -> dict[str, float]:
        """All shared prices by name, read at most `age_s` seconds ago."""

    def set_prices(self, prices: Mapping[str, float]) -> None:
        """Set shared prices (> 0), all in one request."""

    def move_price(
        self, name: str, step: float, start: float, ends: Ends = PRICE_RANGE, *, once: str = ""
    ) -> float:
        """Multiply a price by exp(step), atomically, and return the price after the move.

        A price that does not exist yet is `start` before the move. No move leads outward beyond
        an end; a price that lies beyond one already is not pulled back to it.
        """


class Inbox(Protocol):
    """Messages for the one process that owns the embedded history."""

    def push_inbox(self, payloads: Sequence[bytes], *, once: str = "") -> None:
        """Append messages; a `DataError` names one larger than `MESSAGE_BYTES`."""

    def take_inbox(self, most: int) -> list[bytes]:
        """Up to `most` messages and `TAKEN_BYTES` bytes, at least one, oldest first.

        They stay in the store until `ack_inbox`; until then the same ones are taken again, so a
        crash between the two loses none. A message larger than `MESSAGE_BYTES` is set aside.
        """

    def ack_inbox(self) -> None:
        """Drop the messages that were taken last; a late or second one drops no others."""

    def set_aside(self, payloads: Sequence[bytes]) -> None:
        """Keep messages that nobody could carry out; the last `ASIDE_KEPT`, for `ASIDE_S`."""

    def inbox_sizes(self) -> tuple[int, int]:
        """How many messages wait, and how many are set aside."""


class Decisions(Protocol):
    """The capped stream of all kernels' decisions."""

    def append_decision(self, fields: Mapping[str, str], *, once: str = "") -> str:
        """Add a decision; returns its id."""

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """The last `n` decisions with their ids, newest first."""

    def decision(self, identity: str) -> dict[str, str] | None:
        """One decision by its id; None if it is not, or no longer, kept."""


class Ledger(Protocol):
    """Sums by period, the capped stream of events, and short notes."""

    def add_sums(self, additions: Sequence[PeriodSums], *, once: str = "") -> None:
        """Add to the sums of several periods, atomically and in one round trip."""

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        """The sums of each period, empty where there are none."""

    def append_event(self, fields: Mapping[str, str], *, once: str = "") -> str:
        """Add an event; returns its id."""

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """The last `n` events with their ids, newest first."""

    def swap_note(
        self, name: str, value: str, keep_s: float = 0.0, *, once: str = ""
    ) -> str | None:
        """Set a note for `keep_s` seconds (0 = for good) and return what stood there before."""

    def change_note(self, name: str, known: str | None, value: str, *, once: str = "") -> bool:
        """Set a note for good if it still is what the caller knows (None: there is none).

        False where another has changed it since: then read it again.
        """

    def notes(self, names: Sequence[str]) -> list[str | None]:
        """The notes of these names, None where there is none."""


class Observed(Loads, Inbox, Decisions, Ledger, Protocol):
    """What observers read and write."""

    def warnings(self) -> list[str]:
        """What is set wrong in the server, each with its remedy."""


class WorkloadStore(SlotStore, PriceStore, Observed, Protocol):
    """All capabilities, for whoever opens a store and passes parts of it on."""

    def clock(self) -> float:
        """The store's own time, seconds since the epoch."""

    def close(self) -> None:
        """Return what this process holds, end its threads and connections; idempotent.

        Afterwards `release` does nothing and everything else raises `WorkloadError`.
        """


def check_limits(leases: Sequence[Lease], limits: Mapping[str, int]) -> list[str]:
    """The distinct slots of a batch, each of which must have a limit."""
    slots = list(dict.fromkeys(lease.slot for lease in leases))
    missing = [slot for slot in slots if slot not in limits]
    if missing:
        raise ValueError(f"no limit given for slot {missing[0]!r}")
    return slots


def rest_of(seconds: float) -> float:
    """A rest in its range, 0 to `REST_MOST_S`."""
    if math.isnan(seconds):
        raise ValueError("a model cannot rest for nan seconds")
    return min(max(seconds, 0.0), REST_MOST_S)


def is_price(value: float) -> bool:
    """Whether a number is positive and in range."""
    low, high = PRICE_RANGE
    return low <= value <= high


def check_price(value: float) -> None:
    """Refuse what `is_price` says is none."""
    if not is_price(value):
        raise ValueError("a price must be between {} and {}, not {}".format(*PRICE_RANGE, value))


def check_move(step: float, start: float, ends: Ends) -> None:
    """Refuse a move whose step is not finite, or whose start or ends are no prices."""
    for price in (start, *ends):
        check_price(price)
    if not math.isfinite(step):
        raise ValueError(f"a price cannot move by {step}")


def check_sizes(payloads: Sequence[bytes]) -> None:
    """Refuse messages that are too large for the inbox."""
    for size in map(len, payloads):
        if size > MESSAGE_BYTES:
            raise DataError(f"a message for the history has {size:,} bytes, most {MESSAGE_BYTES:,}")
