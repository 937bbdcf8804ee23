"""What a slot of each model is worth, shared by all kernels.

Where a model is full for long, whoever comes first would take its slots, not who gains most. So a
slot has a price that is carried from call to call. A call that would have chosen the model at that
price, and found it full, lost something: the difference to what it got instead. The price is the
mean of these losses (0 for calls that found a slot), per output token, which stands for the time
that a slot is held: the worth of a slot in a loss network (F. P. Kelly, "Routing in
circuit-switched networks", Adv. Appl. Prob. 20, 1988: implied costs).

While more than half of a model's slots are free none is charged: prices fall with calls, and the
first calls after a busy spell must not avoid a model that idles. The price only says which free
model serves: no call waits for it, and limits stay the store's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from aios_eccos.errors import WorkloadError
from aios_eccos.values import BoolArray, FloatArray, IntArray, Model
from aios_eccos.workload.store import PriceStore

log = logging.getLogger("aios_eccos.serve.router")

#: Weight of one call in a slot's price: some dozens of calls change it.
GAIN = 0.02
#: Calls after which what was learned is written, so that few requests carry it.
WRITTEN_AFTER = 8
#: Seconds after which prices are read again: in these, other kernels move them by little.
READ_AGAIN_S = 1.0
#: Share of the usual cost per token below which a slot counts as free of charge.
LEAST = 1e-3
#: Stands for zero in the store, which keeps positive prices only.
ZERO = 1e-200


class SlotPrices:
    """The store's prices as last read, and what was learned since."""

    def __init__(self, models: Sequence[Model], workload: PriceStore) -> None:
        self._names = tuple(f"slot:{model.slot}" for model in models)
        self._limits = np.array([model.limit for model in models])
        self._workload = workload
        self._slots = np.zeros(len(models))
        self._lost: list[FloatArray] = []
        self._lock = threading.Lock()

    @property
    def slots(self) -> FloatArray:
        """(m,) dollars per output token for which a slot is held; 0 where slots suffice."""
        return self._slots

    def charged(self, free: IntArray) -> FloatArray:
        """(m,) what a call pays per output token, where so many slots (m,) are free now."""
        return np.where(2 * free > self._limits, 0.0, self._slots)

    def read(self) -> dict[str, float]:
        """All prices that kernels share, as of late; the slots' are gone by from now on."""
        try:
            stored = self._workload.read_prices(READ_AGAIN_S)
        except WorkloadError as error:
            log.warning("prices serve unmoved: %s", error)
            return {}
        self.take(stored)
        return stored

    def take(self, stored: Mapping[str, float]) -> None:
        """Go by the store's prices as they were just read, by name."""
        slots = np.array([stored.get(name, 0.0) for name in self._names])
        with self._lock:
            self._slots = np.where(slots > ZERO, slots, 0.0)

    def note_losses(self, lost: FloatArray, usual: float) -> None:
        """Move the prices by what served calls lost, (b, m) as `losses` gives it.

        A price is large or small against the `usual` dollars per output token.
        """
        with self._lock:
            self._lost.extend(lost)
            if len(self._lost) < WRITTEN_AFTER:
                return
            moved = after(self._slots, np.stack(self._lost))
            moved[moved < max(LEAST * usual, 1e-18)] = 0.0
            before, self._slots, self._lost = self._slots, moved, []
        news = {self._names[j]: max(float(moved[j]), ZERO) for j in np.flatnonzero(moved != before)}
        if not news:
            return
        try:
            self._workload.set_prices(news)
        except WorkloadError as error:
            log.warning("the slots' prices are not shared: %s", error)


def losses(
    value: FloatArray,
    carried: FloatArray,
    tokens: FloatArray,
    choice: IntArray,
    full: BoolArray,
    most: float,
) -> FloatArray:
    """(n, m) dollars per output token that each call lost by finding a model full.

    Zero where it found a slot. NaN where it would not have chosen the model: a full one at the
    price that its slots are charged at, one with room at no charge.

    Args:
        value: (n, m) dollars, cost less the worth of success, infinite where not allowed.
        carried: (n, m) dollars that the slots were charged at.
        tokens: (n, m) output tokens forecast.
        choice: (n,) columns that served.
        full: (m,) models without a free slot.
        most: dollars that one call can lose; a price of success at its end is worth any money.
    """
    line = np.arange(len(choice))
    lost = (value + carried)[line, choice][:, None] - value
    found: FloatArray = np.where(full, np.minimum(lost, most) / np.maximum(tokens, 1.0), 0.0)
    found[lost <= np.where(full, carried, 0.0)] = np.nan
    found[line, choice] = 0.0
    return found


def after(prices: FloatArray, lost: FloatArray) -> FloatArray:
    """(m,) dollars per token: the prices (m,) moved by the losses (n, m) of some calls."""
    calls = (~np.isnan(lost)).sum(axis=0)
    mean = np.nansum(lost, axis=0) / np.maximum(calls, 1)
    return np.asarray(prices + (1 - (1 - GAIN) ** calls) * (mean - prices))
