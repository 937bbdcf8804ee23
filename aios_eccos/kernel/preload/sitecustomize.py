"""Loads the plugin into one start: `aios-eccos run` puts this folder first on PYTHONPATH.

The environment's own `sitecustomize`, which this one hides, is run afterwards.
"""

import contextlib
import importlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100,PTH120 (pathlib costs 5 ms here)

sys.path[:] = [entry for entry in sys.path if entry != HERE]
OURS = sys.modules.pop("sitecustomize", None)
try:
    importlib.import_module("aios_eccos.kernel.boot")
except Exception as error:  # noqa: BLE001 - a broken plugin must not keep Python from starting
    sys.stderr.write(f"aios-eccos: not loaded: {type(error).__name__}: {error}\n")
with contextlib.suppress(ImportError):
    importlib.import_module("sitecustomize")
if OURS is not None:
    sys.modules.setdefault("sitecustomize", OURS)  # the import system looks for it afterwards
