"""What Redis last said of slots: good enough to decide on where nothing is scarce.

The store alone lends slots, so limits hold whatever a decision believes. It may go by what was said
lately if that leaves every model room for every call: had it asked, it would have chosen alike. If
that no longer holds, it is refused a slot, and asks. Calls that are too many for some model always
ask, so that a slot that comes back is found as soon as ever.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aios_eccos.values import Lease, Rates
from aios_eccos.workload.script_args import or_none
from aios_eccos.workload.store import Declares, Load

#: Seconds for which an answer is good. Within them a kernel may miss that another one declares
#: less, and what others' calls add to how busy slots are; that a model rests, it hears at once.
RECALLED_S = 1.0


class Recall:
    """The last answer, and what was lent here since. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._declared: Declares = {}, {}
        self._loads: dict[str, Load] = {}
        self._at = self._dropped = -math.inf

    def note(self, declared: Declares, loads: Mapping[str, Load], asked_at: float) -> None:
        """Redis was asked for loads, at `asked_at` by the monotonic clock, and says these."""
        with self._lock:
            if asked_at > self._dropped:
                self._declared, self._loads, self._at = declared, dict(loads), asked_at

    def note_lent(self, told: Mapping[str, Sequence[int]], granted: Sequence[bool]) -> None:
        """Redis has lent slots, as far as it had any, and says of each what acquire.lua does."""
        if not all(granted):
            self.drop()
        with self._lock:
            for slot in told.keys() & self._loads.keys():
                (in_use, _, rpm, tpm, requests, tokens), load = told[slot], self._loads[slot]
                if Rates(or_none(rpm), or_none(tpm)) != load.rates:  # declared since
                    self._at, self._dropped = -math.inf, time.monotonic()
                if load.rates != Rates():
                    load = replace(load, requests=requests, tokens=tokens)
                self._loads[slot] = replace(load, in_use=in_use)

    def note_released(self, leases: Iterable[Lease]) -> None:
        """Leases have come back. A full slot stays full: other kernels may wait for it, too."""
        with self._lock:
            for lease in leases:
                load = self._loads.get(lease.slot)
                if load is not None and load.free > 0:
                    self._loads[lease.slot] = replace(load, in_use=max(load.in_use - 1, 0))

    def drop(self) -> None:
        """What was said until now no longer holds."""
        with self._lock:
            self._at, self._dropped = -math.inf, time.monotonic()

    def loads(self, declared: Declares, calls: int) -> dict[str, Load] | None:
        """The loads as far as they are known; None where Redis is to be asked."""
        with self._lock:
            age = time.monotonic() - self._at
            if age > RECALLED_S or self._declared != declared:
                return None
            loads = dict(self._loads)
        if not all(_ample(load, calls) for load in loads.values()):
            return None
        resting = {slot: load.cooling_s - age for slot, load in loads.items() if load.cooling_s > 0}
        for slot, left_s in resting.items():
            loads[slot] = replace(loads[slot], cooling_s=max(left_s, 0.0))
        return loads


def _ample(load: Load, calls: int) -> bool:
    """Whether so many calls have room, and no more than half of a minute's rates is taken."""
    rpm, tpm = load.rates.rpm, load.rates.tpm
    enough = (rpm is None or 2 * load.requests <= rpm) and (tpm is None or 2 * load.tokens <= tpm)
    return enough and load.free >= calls
