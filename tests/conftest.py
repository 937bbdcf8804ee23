"""What holds for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# The fits are small: threads that wait for each other make a busy machine many times slower.
# Before numpy is first imported.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# A busy machine fails no example by its slowness, and every run tries the same ones.
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


@pytest.fixture
def patient_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel waits for a Redis that lives as long as a busy machine needs."""
    monkeypatch.setattr("aios_eccos.workload.connect.CALL_TIMEOUT_S", 60.0)
