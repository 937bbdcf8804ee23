"""Keys and arguments of the scripts that lend, and their answers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

from aios_eccos.values import Cap, Lease, Rates

#: A period's spending is kept for so long after its end, seconds.
CAP_KEPT_S = 2 * 86_400


def per_slot(slots: Iterable[str], *kinds: str) -> list[str]:
    """For each slot its key's name of each kind."""
    return [f"{kind}:{slot}" for slot in slots for kind in kinds]


def places(leases: Iterable[Lease], slots: Sequence[str]) -> list[object]:
    """Flat pairs of each lease's 1-based slot number and its call id."""
    number = {slot: index for index, slot in enumerate(slots, start=1)}
    return [part for lease in leases for part in (number[lease.slot], lease.call_id)]


def indexed(leases: Iterable[Lease], slots: Sequence[str], caps: Sequence[Cap]) -> list[object]:
    """Leases with their needs, flat, as `lease_at` of common.lua reads them."""
    number = {slot: index for index, slot in enumerate(slots, start=1)}
    indexes = {cap.key: index for index, cap in enumerate(caps, start=1)}
    args: list[object] = []
    for lease in leases:
        need = lease.need
        args += [number[lease.slot], lease.call_id]
        if need is None:
            args += ["", 0, 0, 0]
        else:
            counted = [indexes[cap.key] for cap in need.caps]
            args += [need.id, need.tokens, need.nano, len(counted), *counted]
    return args


def caps_of(leases: Iterable[Lease]) -> list[Cap]:
    """The distinct caps that leases count against."""
    needs = (lease.need for lease in leases if lease.need is not None)
    return [*{cap.key: cap for need in needs for cap in need.caps}.values()]


def slot_keys(slots: Iterable[str], caps: Iterable[Cap]) -> list[str]:
    """The keys of acquire.lua and renew.lua."""
    kinds = ("slots", "limits", "rpm", "tpm", "recent", "closed")
    return ["kernels", "charged", "settled", *per_slot(slots, *kinds), *spent_keys(caps)]


def spent_keys(caps: Iterable[Cap]) -> list[str]:
    return [f"spent:{cap.key}" for cap in caps]


def keep_s(cap: Cap) -> int:
    """Seconds until nobody asks for a period's spending any more."""
    return max(math.ceil(cap.ends - time.time()), 0) + CAP_KEPT_S


def texts(rates: Rates) -> list[int | str]:
    return ["" if rates.rpm is None else rates.rpm, "" if rates.tpm is None else rates.tpm]


def or_none(number: int) -> int | None:
    return None if number < 0 else number


def rows(flat: Sequence[int], width: int) -> Iterator[Sequence[int]]:
    """The flat numbers, so many at a time."""
    return (flat[at : at + width] for at in range(0, len(flat) - width + 1, width))
