"""Keys and arguments of the scripts that lend, and their answers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from aios_eccos.values import Cap, Lease, Rates, Used
from aios_eccos.workload.store import Load

#: What a kernel declares for a slot: calls in flight (-1 = nothing is said of it), and rates.
Declared: TypeAlias = tuple[int, Rates]
#: It is declared no longer.
GONE: Declared = (-2, Rates())

#: A period's spending is kept for so long after its end, seconds.
CAP_KEPT_S = 2 * 86_400


def per_slot(slots: Iterable[str], *kinds: str) -> list[str]:
    """For each slot its key's name of each kind."""
    return [f"{kind}:{slot}" for slot in slots for kind in kinds]


def places(leases: Iterable[Lease], slots: Sequence[str]) -> list[object]:
    """Flat pairs of each lease's 1-based slot number and its call id."""
    number = {slot: index for index, slot in enumerate(slots, start=1)}
    return [part for lease in leases for part in (number[lease.slot], lease.call_id)]


class Asked:
    """What acquire.lua, renew.lua and settle.lua are asked for leases, as they read it."""

    def __init__(self, leases: Sequence[Lease], slots: Iterable[str]) -> None:
        self.slots = list(slots)
        self.caps = caps_of(leases)
        self._slots = {slot: number for number, slot in enumerate(self.slots, start=1)}
        self._caps = {cap: number for number, cap in enumerate(self.caps, start=1)}
        self._sets: dict[int, tuple[int, tuple[Cap, ...]]] = {}
        self._leases = leases

    def _set(self, caps: tuple[Cap, ...]) -> int:
        """The 1-based number of a set of caps. By identity: hashing the caps would take longer."""
        return self._sets.setdefault(id(caps), (len(self._sets) + 1, caps))[0]

    def lending(
        self,
        ttl_ms: int,
        kernel: str,
        declared: Mapping[str, Declared],
        told: Mapping[str, Declared] | None,
    ) -> str:
        """The argument of acquire.lua and renew.lua; `told` = None: Redis knows nothing of it."""
        limits = (declared.get(slot, (-1, Rates())) for slot in self.slots)
        known = told or {}
        asked: dict[str, object] = {
            "ttl": ttl_ms,
            "kernel": kernel,
            "known": told is not None,
            "limits": [[limit, *numbers(rates)] for limit, rates in limits],
            "told": [slot in known and known[slot] == declared.get(slot) for slot in self.slots],
            "caps": [[cap.nano, keep_s(cap)] for cap in self.caps],
            "slots": [self._slots[lease.slot] for lease in self._leases],
            "calls": [lease.call_id for lease in self._leases],
        }
        needs = [lease.need for lease in self._leases]
        if any(needs):
            asked["needs"] = [need is not None and need.id for need in needs]
            asked["tokens"] = [0 if need is None else need.tokens for need in needs]
            asked["nano"] = [0 if need is None else need.nano for need in needs]
            asked["set"] = [0 if need is None else self._set(need.caps) for need in needs]
            asked["sets"] = self._by_number()
        return json.dumps(asked)

    def settling(self, used: Sequence[tuple[Lease, Used]], kernel: str, late: bool) -> str:
        """The argument of settle.lua."""
        found = [
            [self._slots[lease.slot], need.id, need.tokens, need.nano, self._set(need.caps)]
            + [real.requests, real.tokens, real.nano]
            for lease, real in used
            if (need := lease.need) is not None
        ]
        keep = [keep_s(cap) for cap in self.caps]
        asked = {"slots": len(self.slots), "keep": keep, "sets": self._by_number(), "used": found}
        return json.dumps({**asked, "kernel": kernel, "late": late})

    def _by_number(self) -> list[list[int]]:
        return [[self._caps[cap] for cap in caps] for _, caps in self._sets.values()]


def caps_of(leases: Iterable[Lease]) -> list[Cap]:
    """The distinct caps that leases count against."""
    sets = {id(lease.need.caps): lease.need.caps for lease in leases if lease.need is not None}
    return [*dict.fromkeys(cap for caps in sets.values() for cap in caps)]


def slot_keys(slots: Iterable[str], caps: Iterable[Cap]) -> list[str]:
    """The keys of acquire.lua and renew.lua."""
    kinds = ("slots", "limits", "rpm", "tpm", "recent", "closed")
    return ["kernels", "charged", "settled", *per_slot(slots, *kinds), *spent_keys(caps)]


def spent_keys(caps: Iterable[Cap]) -> list[str]:
    return [f"spent:{cap.key}" for cap in caps]


def keep_s(cap: Cap) -> int:
    """Seconds until nobody asks for a period's spending any more."""
    return max(math.ceil(cap.ends - time.time()), 0) + CAP_KEPT_S


def numbers(rates: Rates) -> list[int]:
    """Rates for the scripts: -1 = none."""
    return [-1 if rates.rpm is None else rates.rpm, -1 if rates.tpm is None else rates.tpm]


def or_none(number: int) -> int | None:
    return None if number < 0 else number


def load_of(row: Sequence[int]) -> Load:
    """What loads.lua says of a slot."""
    in_use, limit, rpm, tpm, requests, tokens, opens_ms, cooling_ms, closed_ms = row
    return Load(
        in_use,
        limit,
        cooling_ms / 1000,
        Rates(or_none(rpm), or_none(tpm)),
        requests,
        tokens,
        opens_ms / 1000,
        closed_ms / 1000,
    )


def rows(flat: Sequence[int], width: int) -> Iterator[Sequence[int]]:
    """The flat numbers, so many at a time."""
    return (flat[at : at + width] for at in range(0, len(flat) - width + 1, width))
