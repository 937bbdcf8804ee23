"""Where things are: AIOS's folder, its config file, and the plugin's state folder.

The only module that reads the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_state_path

from aios_eccos import files
from aios_eccos.config import ModelEntry, Settings, parse_config
from aios_eccos.config.yaml_text import decode, load
from aios_eccos.errors import ConfigError

APP = "aios-eccos"
#: AIOS reads its configuration from this place in its own checkout, and from no other.
CONFIG_IN_AIOS = Path("aios/config/config.yaml")


@dataclass(frozen=True, slots=True)
class Location:
    """One installation of the plugin.

    Attributes:
        aios_home: AIOS's checkout, None for standalone use.
        config_path: the YAML file that settings come from, None = defaults.
        state_dir: 0700 folder for history, Redis data and trained heads.
        found_by: how `config_path` was chosen, for `doctor`.
    """

    aios_home: Path | None
    config_path: Path | None
    state_dir: Path
    found_by: str


@dataclass(frozen=True, slots=True)
class Config:
    """Settings and models, read and validated.

    Attributes:
        strategy: AIOS's `llms.router.strategy`; "eccos" means that the plugin is on.
    """

    location: Location
    settings: Settings
    entries: tuple[ModelEntry, ...]
    strategy: str = ""


def state_root() -> Path:
    """`$AIOS_ECCOS_STATE` or the platform's state folder."""
    override = os.environ.get("AIOS_ECCOS_STATE")
    return Path(override) if override else user_state_path(APP)


def cache_dir() -> Path:
    """Folder of what can be made again (embeddings, fitted heads of evaluations)."""
    override = os.environ.get("AIOS_ECCOS_CACHE")
    return files.private_dir(Path(override) if override else user_cache_path(APP))


def environment_key(provider: str) -> str | None:
    """A provider's API key as its own SDK reads it, e.g. `$OPENAI_API_KEY`."""
    return os.environ.get(f"{provider.upper()}_API_KEY") or None


def state_dir_of(aios_home: Path | None) -> Path:
    """The state folder of one AIOS checkout, or `standalone`."""
    if aios_home is None:
        return state_root() / "standalone"
    digest = hashlib.sha256(str(aios_home.resolve()).encode()).hexdigest()[:12]
    return state_root() / digest


def locate(config: Path | None = None, aios_home: Path | None = None) -> Location:
    """Find the configuration: `--config`, `--aios-home`, `$AIOS_HOME`, last `enable`, defaults.

    Raises:
        ConfigError: a place that was named does not exist.
    """
    if config is not None:
        if not config.is_file():
            raise ConfigError(f"--config {config}: no such file")
        inside = config.parent.resolve() / config.name  # which may be a link to elsewhere
        home = inside.parents[2] if inside.parts[-3:] == CONFIG_IN_AIOS.parts else None
        return Location(home, config, state_dir_of(home), "--config")
    named = os.environ.get("AIOS_HOME")
    for home, found_by in (
        (aios_home, "--aios-home"),
        (Path(named) if named else None, "$AIOS_HOME"),
        (last_enabled(), "the last `enable`"),
    ):
        if home is None:
            continue
        if not (home / CONFIG_IN_AIOS).is_file():
            raise ConfigError(
                f"{found_by}: {home} holds no {CONFIG_IN_AIOS}; name AIOS's checkout, or run "
                "`aios-eccos enable --aios-home DIR`, which makes it from config.yaml.example"
            )
        return Location(home, home / CONFIG_IN_AIOS, state_dir_of(home), found_by)
    return Location(None, None, state_dir_of(None), "defaults")


def last_enabled() -> Path | None:
    """The AIOS checkout of the last `enable`, if it still has a configuration."""
    try:
        noted = json.loads((state_root() / "enabled.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    home = noted.get("aios_home") if isinstance(noted, dict) else None
    if not isinstance(home, str) or not home or not (Path(home) / CONFIG_IN_AIOS).is_file():
        return None
    return Path(home)


def remember_enabled(aios_home: Path | None) -> None:
    """Note (or, with None, forget) the checkout that commands without arguments mean."""
    path = files.private_dir(state_root()) / "enabled.json"
    if aios_home is None:
        path.unlink(missing_ok=True)
    else:
        files.write(path, json.dumps({"aios_home": str(aios_home.resolve())}), synced=True)


def load_config(location: Location) -> Config:
    """Read and validate the configuration at `location`.

    Raises:
        ConfigError: unreadable YAML, or a setting that does not validate.
    """
    if location.config_path is None:
        return Config(location, Settings(), ())
    llms = mapping_of(read_yaml(location.config_path).get("llms"), "llms")
    router = mapping_of(llms.get("router"), "llms.router")
    settings, entries = parse_config(router.get("eccos"), llms.get("models"))
    return Config(location, settings, entries, str(router.get("strategy", "")))


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Parse a YAML file whose top is a mapping.

    Raises:
        ConfigError: as `read_document`, or it is no mapping.
    """
    return mapping_of(read_document(path), str(path))


def read_document(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ConfigError: unreadable, not UTF-8, or no YAML; names file and line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return load(decode(raw, str(path)), str(path))


def mapping_of(raw: object, where: str) -> Mapping[str, Any]:
    """A mapping, empty for None.

    Raises:
        ConfigError: it is none; names the place, not the value, which may hold a key.
    """
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: wanted a mapping, found {type(raw).__name__}")
    return raw
