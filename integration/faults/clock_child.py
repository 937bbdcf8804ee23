"""Runs AIOS with a Python clock that is so many seconds ahead as the file $CLOCK_FILE says.

libfaketime would step the machine's clock for good, but Python's sleep does not work below it.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path

FILE = Path(os.environ["CLOCK_FILE"])
_ns = time.time_ns


def stepped_ns() -> int:
    """Nanoseconds since the epoch, by the stepped clock."""
    return _ns() + int(FILE.read_text()) * 10**9


time.time_ns = stepped_ns
time.time = lambda: stepped_ns() / 1e9

if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module("runtime.launch", run_name="__main__", alter_sys=True)
