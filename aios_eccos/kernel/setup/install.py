"""Switching the plugin on and off: AIOS's config.yaml, and the hook in AIOS's interpreter.

What was changed is noted in the state folder (`enabled.json`, beside the file as it was), so that
`disable` can put every byte back.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from aios_eccos import __version__, files
from aios_eccos.config import parse_config, parse_models
from aios_eccos.config.yaml_text import decode, load
from aios_eccos.errors import ConfigError, KernelError, other_format
from aios_eccos.forecast.pricing import with_facts
from aios_eccos.kernel import toolserver
from aios_eccos.kernel.setup import contract, interpreter
from aios_eccos.kernel.setup import yaml_edit as edit
from aios_eccos.kernel.setup.alone import switching
from aios_eccos.locate import CONFIG_IN_AIOS, state_dir_of, state_root
from aios_eccos.manifest import manifest

PRICE_COMMENT = (
    "# aios-eccos: price unknown; dollars per token, 0 = free:\n"
    "# input_cost_per_token: 0\n"
    "# output_cost_per_token: 0\n"
)
FALLBACK_STRATEGY = "sequential"
#: A model, a key of its entry in `llms.models`, and the value as YAML has it.
ModelKey: TypeAlias = tuple[str, str, str]
#: In the state folder: what `enable` did, and config.yaml as it was.
NOTE, BEFORE = "enabled.json", "config.yaml.before"
NOTE_SCHEMA = "aios-eccos/enabled/1"


@dataclass(frozen=True, slots=True)
class Note:
    """What `enable` did to one checkout: the hook's file in an interpreter, and config.yaml.

    That was `created` from its example, or had `strategy` as it is written there, None for none.
    `before` and `after` are its sha256.
    """

    python: str
    hook: str
    created: bool
    strategy: str | None
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """AIOS's config.yaml; with `created` it is not there yet, and `raw` is its example."""

    path: Path
    raw: bytes
    created: bool = False

    @property
    def text(self) -> str:
        return decode(self.raw, str(self.path))


def enable(
    aios_home: Path,
    python: str = sys.executable,
    options: Mapping[str, str] | None = None,
    keys: Sequence[ModelKey] = (),
) -> list[str]:
    """Switch the plugin on; says what it did, line by line. Harmless when repeated.

    `options` are settings to write into our block, as YAML has them, `keys` those of models.

    A ConfigError: AIOS's configuration is missing or does not validate; a KernelError: AIOS is not
    as we know it, or the interpreter cannot run it.
    """
    home, python = aios_home.resolve(), interpreter.absolute(python)
    found = interpreter.probe(python)
    check_contract(home)
    hook = Path(found["site"]).resolve() / interpreter.HOOK_FILE
    with switching(home) as state:
        file = _read_config(home)
        text, unpriced = _switched_on(file.text, options or {}, keys)
        return _enable(file, text, unpriced, state, python, hook)


def _enable(
    file: ConfigFile, text: str, unpriced: list[str], state: Path, python: str, hook: Path
) -> list[str]:
    known = _note(state)
    note = _noted(known, file, text, python, hook)
    if known is None or known.created != file.created:
        _write(state / BEFORE, file.raw)
    # The hook first, as that may fail: the note then still names the hook of before.
    hooked = interpreter.write_hook(hook, manifest().entry_point)
    _write_note(state, note)
    said = [f"made {file.path} from config.yaml.example"] if file.created else []
    if file.created or text != file.text:
        _write(file.path, text.encode())
        said.append(f"wrote strategy: eccos into {file.path} (as it was: {state / BEFORE})")
    else:
        said.append(f"{file.path} has strategy: eccos already")
    said.append(hooked)
    if known is not None and Path(known.hook).resolve() != hook:
        said.append(_remove_hook(Path(known.hook), state))
    if unpriced:
        names = ", ".join(unpriced)
        said.append(f"no price known for {names}: fill in the commented lines below them")
    return [*said, "restart the kernel as usual, e.g. `python -m runtime.launch`"]


def preview(
    aios_home: Path, options: Mapping[str, str], keys: Sequence[ModelKey]
) -> tuple[str, str]:
    """AIOS's configuration as it is, and as `enable` would leave it."""
    file = _read_config(aios_home.resolve())
    return file.text, _switched_on(file.text, options, keys)[0]


def _switched_on(
    text: str, options: Mapping[str, str], keys: Sequence[ModelKey]
) -> tuple[str, list[str]]:
    """The configuration with the plugin on, validated; and its models without a known price."""
    shipped = manifest()
    for model, key, value in keys:
        text = edit.set_key(text, model, key, value)
    unpriced = [
        entry.name
        for entry in parse_models(edit.read_llms(text).get("models"))
        if with_facts(entry.model(), entry.backend).price_state == "unknown"
    ]
    strategy, block = shipped.aios.strategy, shipped.default_block
    new = edit.switch_on(text, strategy, block, PRICE_COMMENT, unpriced)
    for key, value in options.items():
        new = edit.set_option(new, key, value)
    llms = edit.read_llms(new)
    parse_config(llms["router"]["eccos"], llms.get("models"))
    return new, unpriced


def _noted(known: Note | None, file: ConfigFile, text: str, python: str, hook: Path) -> Note:
    """What is noted of this `enable`; of what was before, the first one knows."""
    before, after = _digest(file.raw), _digest(text.encode())
    if known is None:
        strategy = edit.strategy_of(file.text)
        return Note(python, str(hook), file.created, strategy, before, after)
    # If the operator has changed the file since the first time, `disable` must not undo that.
    ours = before in (known.before, known.after)
    return replace(known, python=python, hook=str(hook), after=after if ours else "")


def disable(aios_home: Path) -> list[str]:
    """Switch the plugin off; says what it did, line by line. Harmless when repeated."""
    home = aios_home.resolve()
    with switching(home) as state:
        note = _note(state)
        said = [_restore(home / CONFIG_IN_AIOS, state, note)]
        if note is not None:
            said.append(_remove_hook(Path(note.hook), state))
            (state / NOTE).unlink(missing_ok=True)
    if sys.platform != "win32":
        from aios_eccos.workload.embedded import stop_embedded

        ended = stop_embedded(state, used=False)  # a kernel that runs would start it again
        said.append("ended the embedded Redis" if ended else "no embedded Redis was running unused")
    if toolserver.clear(state):
        said.append("ended the tool server of a kernel that was killed")
    return said


def _restore(path: Path, state: Path, note: Note | None) -> str:
    if not path.is_file():
        return f"{path} does not exist"
    file, saved = ConfigFile(path, _read(path)), state / BEFORE
    ours = manifest().aios.strategy
    earlier = load(note.strategy, NOTE) if note is not None and note.strategy else None
    # AIOS does not start with a strategy that it does not know, as an operator has written ours.
    undone = note is not None and earlier != ours and _digest(file.raw) == note.after
    if note is not None and undone and saved.is_file():
        if note.created:
            path.resolve().unlink()
            return f"removed {path}, which `enable` had made from config.yaml.example"
        _write(path, saved.read_bytes())
        return f"restored {path}, byte for byte"
    shipped = manifest()
    new = file.text
    router = edit.read_llms(new).get("router") or {}
    if router.get("strategy") == ours:
        before = note.strategy if note is not None and earlier != ours else None
        new = edit.put(new, ("router", "strategy"), before or FALLBACK_STRATEGY)
    new = edit.drop_comment(edit.drop_block(new, shipped.default_config), PRICE_COMMENT)
    if new == file.text:
        return f"{path} has no strategy: eccos; nothing to change"
    _write(path, new.encode())
    kept = "; settings of yours in its eccos block stay" if "eccos:" in new else ""
    return f"took strategy: eccos out of {path}, which has other changes too{kept}"


def set_option(path: Path, key: str, value: str) -> None:
    """Write a setting into the configuration file; `disable` still knows the file as its own."""
    file = ConfigFile(path, _read(path))
    new = edit.set_option(file.text, key, value).encode()
    # Not resolved: the file itself may be a link to somewhere else.
    state = state_dir_of(path.absolute().parents[2])
    note = _note(state)
    if note is not None and note.after == _digest(file.raw):
        _write_note(state, replace(note, after=_digest(new)))
    _write(path, new)


def check_contract(home: Path) -> None:
    """Raise a `KernelError` unless this is a checkout of AIOS and as the plugin relies on it."""
    if not (home / "runtime/launch.py").is_file():
        raise KernelError(f"{home} is no checkout of AIOS: it has no runtime/launch.py")
    moved = contract.check(home)
    if moved:
        more = f" (and {len(moved) - 3} more)" if len(moved) > 3 else ""
        raise KernelError(
            f"this AIOS is not as aios-eccos {__version__} knows it: {'; '.join(moved[:3])}{more}"
        )


def note_of(aios_home: Path) -> Note | None:
    """What the last `enable` did to this checkout; None if it is not enabled."""
    return _note(state_dir_of(aios_home.resolve()))


def strategy_before(aios_home: Path) -> str | None:
    """AIOS's strategy before `enable`; None where there was none, or nothing was enabled."""
    note = note_of(aios_home)
    written = load(note.strategy, NOTE) if note is not None and note.strategy else None
    return written if isinstance(written, str) else None


def _note(state: Path) -> Note | None:
    """The note in a state folder; a KernelError where another version has written it."""
    raw = _raw_note(state)
    schema = raw.pop("schema", NOTE_SCHEMA)  # 0.1.0 named none
    if schema != NOTE_SCHEMA:
        with_it = "switch on and off with the version that has written it"
        raise KernelError(other_format(str(state / NOTE), schema, NOTE_SCHEMA, with_it))
    try:
        return Note(**raw)
    except TypeError:
        return None


def _raw_note(state: Path) -> dict[str, Any]:
    try:
        raw = json.loads((state / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _write_note(state: Path, note: Note) -> None:
    _write(state / NOTE, json.dumps({"schema": NOTE_SCHEMA, **asdict(note)}).encode())


def _read_config(home: Path) -> ConfigFile:
    path = home / CONFIG_IN_AIOS
    if path.is_file():
        return ConfigFile(path, _read(path))
    example = path.with_name("config.yaml.example")
    if not example.is_file():
        raise ConfigError(f"{home} has neither {CONFIG_IN_AIOS} nor its example")
    return ConfigFile(path, _read(example), created=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    try:
        files.write(path, content, synced=True)
    except OSError as error:
        raise KernelError(f"{path} cannot be written: {error.strerror}") from error


def _remove_hook(hook: Path, state: Path) -> str:
    others = [found.parent for found in state_root().glob(f"*/{NOTE}")]
    if any(_raw_note(folder).get("hook") == str(hook) for folder in others if folder != state):
        return f"left the hook {hook}: another AIOS of this interpreter is enabled"
    return interpreter.remove_hook(hook)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
