"""What summaries are made from, read in a few round trips."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aios_eccos.config import Settings
from aios_eccos.observe.observer_store import Watched
from aios_eccos.observe.trace import Trace, read_traces
from aios_eccos.observe.views import AlarmView, EdgeView
from aios_eccos.values import Model
from aios_eccos.verdicts.counted import read_alarms
from aios_eccos.workload.periods import SINCE, TOTAL, periods
from aios_eccos.workload.store import Load

#: Decisions that current slot prices and the success price are read from.
RECENT = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of the plugin at one moment.

    Attributes:
        loads: by model name.
        total: sums since the first kept call, at `since`.
        hours: sums of the last 24 hours and of this one, oldest first.
        minutes: sums of this minute and the one before, oldest first.
        recent: the last decisions, newest first.
        edge: what only a kernel's own process knows; None without one.
    """

    at: float
    settings: Settings
    models: tuple[Model, ...]
    money: bool
    loads: Mapping[str, Load]
    degraded: bool
    kernels: int
    since: float | None
    total: Mapping[str, float]
    hours: Sequence[Mapping[str, float]]
    minutes: Sequence[Mapping[str, float]]
    alarms: Sequence[AlarmView]
    recent: Sequence[Trace]
    edge: EdgeView | None


def read_facts(
    workload: Watched,
    settings: Settings,
    models: Sequence[Model],
    *,
    money: bool,
    edge: EdgeView | None = None,
) -> Facts:
    """Read everything that `status` shows.

    Raises:
        WorkloadError: the workload store cannot be used.
    """
    now = time.time()
    loads = workload.loads({model.slot: model.limit for model in models})
    hours, minutes = periods("h", now, 25), periods("m", now, 2)
    sums = workload.sums([TOTAL, *hours, *minutes])
    (since,) = workload.notes([SINCE])
    return Facts(
        at=now,
        settings=settings,
        models=tuple(models),
        money=money,
        loads={model.name: loads[model.slot] for model in models},
        degraded=workload.degraded,
        kernels=workload.kernels,
        since=None if since is None else float(since),
        total=sums[0],
        hours=sums[1 : 1 + len(hours)],
        minutes=sums[1 + len(hours) :],
        alarms=read_alarms(workload, now),
        recent=read_traces(workload.decisions(RECENT)),
        edge=edge,
    )
