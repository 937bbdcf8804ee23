"""The workload store of a kernel, opened twice: for its calls, and for whoever may wait longer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aios_eccos import files
from aios_eccos.config import Settings
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.proxies import ObserverStore
from aios_eccos.workload.store import WorkloadStore


def open_stores_of(state_dir: Path, settings: Settings) -> tuple[WorkloadStore, ObserverStore]:
    """The workload that calls use, and the same for whoever may wait for it longer."""
    folder, namespace = files.private_dir(state_dir), settings.namespace
    opened = partial(open_workload, settings.redis, state_dir=folder, namespace=namespace)
    workload = opened(
        required=False,
        lease_ttl_s=settings.lease_ttl_s,
        # A call is given up before; should its thread be lost, its slot comes back.
        longest_s=2 * settings.call_timeout_s,
    )
    patient = None if settings.redis == "memory" else partial(opened, member=False)
    return workload, ObserverStore(workload, patient)
