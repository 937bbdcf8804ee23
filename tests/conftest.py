"""What holds for all tests."""

import os

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
