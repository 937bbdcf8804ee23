"""The plugin's manifest, `plugin.yaml`, as `enable` and `doctor` read it."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aios_eccos import __version__
from aios_eccos.config import parse_settings
from aios_eccos.config.yaml_text import load
from aios_eccos.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Supported(_Strict):
    """What of AIOS the plugin fits.

    Attributes:
        contract: number of the list of points in `kernel.contract`.
        tested: commits that the integration suite has run on.
        needs: packages without which an interpreter cannot run AIOS.
        strategy: value of `llms.router.strategy` that switches the plugin on.
    """

    contract: int = Field(ge=1)
    tested: dict[Literal["aios", "cerebrum"], tuple[str | int, ...]]
    needs: tuple[str, ...] = Field(min_length=1)
    strategy: str


class Manifest(_Strict):
    """`plugin.yaml`.

    Attributes:
        entry_point: module that the kernel's interpreter imports at its start.
        default_config: the `llms.router.eccos` block that `enable` writes.
        default_block: the same as text, with its comments.
        commands: command and what it does.
    """

    name: str
    version: str
    summary: str
    entry_point: str
    aios: Supported
    default_config: dict[str, Any]
    commands: dict[str, str]
    default_block: str


@lru_cache(maxsize=1)
def manifest() -> Manifest:
    """The manifest of the installed package.

    Raises:
        ConfigError: it is missing, malformed, of another version, or its defaults do not validate.
    """
    try:
        text = files("aios_eccos").joinpath("plugin.yaml").read_text(encoding="utf-8")
        raw = load(text, "plugin.yaml")
        found = Manifest.model_validate({**raw, "default_block": _block(text)})
    except (OSError, TypeError, ValidationError) as error:
        raise ConfigError(f"plugin.yaml of the installed package: {error}") from error
    if found.version != __version__:
        raise ConfigError(f"plugin.yaml is of version {found.version}, the package {__version__}")
    parse_settings(found.default_config)
    return found


def _block(text: str) -> str:
    """The lines below `default_config:`, without their indentation."""
    lines = text.split("default_config:\n", 1)[-1].splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), None)
    return "\n".join(line.removeprefix("  ") for line in lines[:end]) + "\n"
