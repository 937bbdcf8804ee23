"""The settings: the `llms.router.eccos` block and the entries of `llms.models`, validated.

The only package that parses configuration. Where the file lies is `locate.py`'s affair.
"""

from __future__ import annotations

import difflib

from aios_eccos.config.checks import AUTO, Floor, parse_floor, parse_share, shown
from aios_eccos.config.models import ModelEntry, parse_models
from aios_eccos.config.settings import AgentPolicy, Settings, parse_settings
from aios_eccos.errors import ConfigError
from aios_eccos.values.plan import parse_plan

__all__ = [
    "AgentPolicy",
    "Floor",
    "ModelEntry",
    "Settings",
    "parse_config",
    "parse_floor",
    "parse_models",
    "parse_settings",
    "parse_share",
]


def parse_config(settings: object, models: object) -> tuple[Settings, tuple[ModelEntry, ...]]:
    """Validate `llms.router.eccos` and `llms.models`, each and together; see `parse_settings`."""
    found, entries = parse_settings(settings), tuple(parse_models(models))
    names = [entry.name for entry in entries]
    for key in ("baseline", "judge"):
        _check_model(key, getattr(found, key), names)
    for text in found.plans if found.plans != AUTO else ():
        _check_plan(text, names)
    return found, entries


def _check_plan(text: str, names: list[str]) -> None:
    try:
        parse_plan(text, names)
    except ValueError as error:
        raise ConfigError(f"llms.router.eccos.plans = {shown(text)}: {error}") from None


def _check_model(key: str, value: str | None, names: list[str]) -> None:
    """Refuse a setting that names a model which is not configured."""
    if value is None or value in names:
        return
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"configured: {', '.join(names)}"
    raise ConfigError(f"llms.router.eccos.{key} = {shown(value)}: no configured model; {hint}")
