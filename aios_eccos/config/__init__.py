"""The settings: the `llms.router.eccos` block and the entries of `llms.models`, validated.

The only package that parses configuration. Where the file lies is `locate.py`'s affair.
"""

from __future__ import annotations

import difflib

from aios_eccos.config.checks import Floor, parse_floor
from aios_eccos.config.models import ModelEntry, parse_models
from aios_eccos.config.settings import AgentPolicy, Settings, parse_settings
from aios_eccos.errors import ConfigError

__all__ = [
    "AgentPolicy",
    "Floor",
    "ModelEntry",
    "Settings",
    "parse_config",
    "parse_floor",
    "parse_models",
    "parse_settings",
]


def parse_config(settings: object, models: object) -> tuple[Settings, tuple[ModelEntry, ...]]:
    """Validate `llms.router.eccos` and `llms.models`, each and together; see `parse_settings`."""
    found, entries = parse_settings(settings), tuple(parse_models(models))
    names = [entry.name for entry in entries]
    if found.baseline is not None and found.baseline not in names:
        near = difflib.get_close_matches(found.baseline, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"configured: {', '.join(names)}"
        where = f"llms.router.eccos.baseline = {found.baseline!r}"
        raise ConfigError(f"{where}: no configured model; {hint}")
    return found, entries
