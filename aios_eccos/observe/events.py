"""Changes of floor, limit, price, head and mode, as they were kept: when, before, after."""

from __future__ import annotations

from aios_eccos.observe.views import EventView
from aios_eccos.workload.ledger import Ledger


def read_events(ledger: Ledger, n: int) -> list[EventView]:
    """The last `n` events, newest first.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    return [
        EventView(
            id=identity,
            at=int(identity.split("-")[0]) / 1000,
            what=fields.get("what", ""),
            before=fields.get("before"),
            after=fields.get("after"),
        )
        for identity, fields in ledger.events(n)
    ]
