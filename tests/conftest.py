"""What holds for all tests."""

import os

# The fits are small: threads that wait for each other make a busy machine many times slower.
# Before numpy is first imported.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
