"""What every workload store does, whatever is behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aios_eccos.values import Lease
from aios_eccos.workload.ledger import Ledger

#: Seconds for which the store knows a write by its name, so as not to do it twice.
REMEMBERED_S = 600
#: A price outside this range could never move back by finite steps.
PRICE_RANGE = (1e-300, 1e300)


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the slots of one model are.

    Attributes:
        in_use: slots lent out now, by all kernels.
        limit: most slots at once; the smallest that a living kernel declares.
        cooling_s: seconds that the model still rests after an error; 0 = it does not.
    """

    in_use: int
    limit: int
    cooling_s: float

    @property
    def free(self) -> int:
        """Slots that may be lent now, never below zero."""
        return max(0, self.limit - self.in_use)


class WorkloadStore(Ledger, Protocol):
    """Lends slots, and keeps what kernels share: prices, an inbox of records, decisions.

    All methods are safe to call from any thread and raise `WorkloadError` when the store cannot
    be used. `limits` maps a slot to the limit that this kernel declares for it; of the limits
    that living kernels declare, the smallest holds.
    """

    @property
    def degraded(self) -> bool:
        """True while the shared store is unreachable and local limits stand in for it."""
        ...

    @property
    def kernels(self) -> int:
        """Kernels known to use the store, this one among them; at least 1."""
        ...

    def acquire(self, leases: Sequence[Lease], limits: Mapping[str, int]) -> list[bool]:
        """Take slots for a whole batch in one round trip; the i-th answer is for the i-th lease.

        A full slot is refused; one that cools down is not, because only the asker knows whether
        another model may serve the call. A lease that is already held is granted again, so that
        an acquire whose answer was lost can be repeated.

        Raises:
            ValueError: a lease's slot has no limit.
        """
        ...

    def release(self, leases: Sequence[Lease]) -> None:
        """Give slots back and wake who waits for one; what is not held is ignored."""
        ...

    def renew(self) -> None:
        """Prolong all leases that this process holds, in one round trip; lost ones come back."""
        ...

    def loads(self, limits: Mapping[str, int]) -> dict[str, Load]:
        """The load of each slot in `limits`, in one round trip; declares nothing."""
        ...

    def cool_down(self, slot: str, seconds: float) -> None:
        """Tell every kernel that the model rests; the longer of two waits holds, 0 ends it."""
        ...

    def on_release(self, callback: Callable[[], None]) -> None:
        """Call back, from a background thread, after releases by any kernel, this one included.

        Several releases may be told by one call, and a callback given twice is called once. It
        must be short and must not raise.
        """
        ...

    def read_prices(self) -> dict[str, float]:
        """All shared prices by name."""
        ...

    def set_prices(self, prices: Mapping[str, float]) -> None:
        """Set shared prices (> 0), all in one request."""
        ...

    def move_price(
        self,
        name: str,
        step: float,
        start: float,
        low: float = PRICE_RANGE[0],
        high: float = PRICE_RANGE[1],
        once: str = "",
    ) -> float:
        """Multiply a price by exp(step), atomically, and return the price after the move.

        A price that does not exist yet is `start` before the move. No move leads outward beyond
        an end, `low` or `high`; a price that lies beyond one already is not pulled back to it.

        Args:
            name: the price's name.
            step: the move of the price's natural logarithm.
            start: the price before its first move.
            low: least price that a step downward leads to.
            high: greatest price that a step upward leads to.
            once: names this move of this price: a second one of that name, within
                `REMEMBERED_S`, changes nothing and returns the price that the first one led to.
                "" = a move of its own.
        """
        ...

    def push_inbox(self, payloads: Sequence[bytes]) -> None:
        """Hand records to the process that owns the embedded history."""
        ...

    def take_inbox(self, most: int) -> list[bytes]:
        """Up to `most` handed records, oldest first, for the one owner of the history.

        They stay in the store until `ack_inbox`; until then the same ones are taken again, so a
        crash between the two loses none.
        """
        ...

    def ack_inbox(self) -> None:
        """Drop the records that were taken last."""
        ...

    def append_decision(self, fields: Mapping[str, str]) -> str:
        """Add a decision to the capped stream of all kernels; returns its id."""
        ...

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """The last `n` decisions with their ids, newest first."""
        ...

    def close(self) -> None:
        """Return what this process holds, end its threads and connections; idempotent.

        Afterwards `release` does nothing and everything else raises `WorkloadError`.
        """
        ...


def moved(price: float, step: float, low: float, high: float) -> float:
    """A price after one move, as `WorkloadStore.move_price` and its script say."""
    target = price * math.exp(min(step, math.log(PRICE_RANGE[1])))
    if step > 0:
        return price if price >= high else min(target, high)
    return price if price <= low else max(target, low)


def check_limits(leases: Sequence[Lease], limits: Mapping[str, int]) -> list[str]:
    """The distinct slots of a batch, each of which must have a limit."""
    slots = list(dict.fromkeys(lease.slot for lease in leases))
    missing = [slot for slot in slots if slot not in limits]
    if missing:
        raise ValueError(f"no limit given for slot {missing[0]!r}")
    return slots
