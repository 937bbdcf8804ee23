"""Switching the plugin on and off: AIOS's config.yaml, and the hook in AIOS's interpreter.

What was changed is noted in the state folder (`enabled.json`, beside the file as it was), so that
`disable` can put every byte back.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from aios_eccos import __version__, files
from aios_eccos.config import ModelEntry, parse_models, parse_settings
from aios_eccos.errors import ConfigError, KernelError
from aios_eccos.forecast.pricing import state_of, with_facts
from aios_eccos.kernel import toolserver
from aios_eccos.kernel.setup import contract
from aios_eccos.kernel.setup import yaml_edit as edit
from aios_eccos.kernel.setup.interpreter import absolute, probe
from aios_eccos.locate import CONFIG_IN_AIOS, state_dir_of, state_root
from aios_eccos.manifest import manifest

HOOK_FILE = "aios_eccos_kernel.pth"
#: Guards itself: it does nothing once the package is gone, and can never stop Python.
HOOK_LINE = (
    'import sys; exec("try:\\n import {module}\\nexcept Exception:\\n pass")'
    "  # written by `aios-eccos enable`; `aios-eccos disable` removes it\n"
)
PRICE_COMMENT = (
    "# aios-eccos: price unknown; dollars per token, 0 = free:\n"
    "# input_cost_per_token: 0\n"
    "# output_cost_per_token: 0\n"
)
FALLBACK_STRATEGY = "sequential"


@dataclass(frozen=True, slots=True)
class Note:
    """What `enable` did to one checkout.

    Attributes:
        python: the interpreter that got the hook.
        hook: path of the hook's file there.
        created: whether config.yaml was made from the example.
        strategy: the strategy's scalar before, as it was written; None if there was none.
        before, after: sha256 of config.yaml.
    """

    python: str
    hook: str
    created: bool
    strategy: str | None
    before: str
    after: str


def enable(aios_home: Path, python: str = sys.executable, observe: bool = False) -> list[str]:
    """Switch the plugin on; says what it did, line by line. Harmless when repeated.

    Raises:
        ConfigError: AIOS's configuration is missing or does not validate.
        KernelError: AIOS is not as we know it, or the interpreter cannot run it.
    """
    return list(_enable(aios_home.resolve(), python, observe))


def _enable(home: Path, python: str, observe: bool) -> Iterator[str]:
    python = absolute(python)
    found = probe(python)
    check_contract(home)
    path, created, raw = _read_config(home)
    text = raw.decode("utf-8")
    entries = parse_models(edit.read_llms(text).get("models"))
    unpriced = [entry.name for entry in entries if _unpriced(entry)]
    shipped = manifest()
    new = edit.switch_on(
        text, shipped.aios.strategy, shipped.default_block, PRICE_COMMENT, unpriced
    )
    if observe:
        new = edit.set_option(new, "mode", "observe")
    parse_settings(edit.read_llms(new)["router"]["eccos"])
    state = files.private_dir(state_dir_of(home))
    hook = Path(found["site"]).resolve() / HOOK_FILE
    note = _note(state)
    if note is None or note.created != created:
        files.write(state / "config.yaml.before", raw, synced=True)
    after = new.encode("utf-8")
    # Where the operator changed the file since the first time, what was before holds no longer.
    ours = note is None or _digest(raw) in (note.before, note.after)
    # First, as it may fail: then the note still names the hook of before. Alone it does nothing.
    hooked = _write_hook(hook, shipped.entry_point)
    files.write(
        state / "enabled.json",
        json.dumps(
            asdict(
                Note(
                    python=python,
                    hook=str(hook),
                    created=created if note is None else note.created,
                    strategy=edit.strategy_of(text) if note is None else note.strategy,
                    before=_digest(raw) if note is None else note.before,
                    after=_digest(after) if ours else "",
                )
            )
        ).encode(),
        synced=True,
    )
    if created:
        yield f"made {path} from config.yaml.example"
    if after != raw or created:
        files.write(path, after, synced=True)
        yield f"wrote strategy: eccos into {path} (as it was: {state / 'config.yaml.before'})"
    else:
        yield f"{path} has strategy: eccos already"
    yield hooked
    if note is not None and Path(note.hook).resolve() != hook:
        yield _remove_hook(Path(note.hook), state)
    if unpriced:
        yield f"no price known for {', '.join(unpriced)}: fill in the commented lines below them"
    yield "restart the kernel as usual, e.g. `python -m runtime.launch`"


def disable(aios_home: Path) -> list[str]:
    """Switch the plugin off; says what it did, line by line. Harmless when repeated."""
    return list(_disable(aios_home.resolve()))


def _disable(home: Path) -> Iterator[str]:
    state = state_dir_of(home)
    path = home / CONFIG_IN_AIOS
    note = _note(state)
    yield _restore(path, state, note)
    if note is not None:
        yield _remove_hook(Path(note.hook), state)
        (state / "enabled.json").unlink(missing_ok=True)
    if sys.platform != "win32":
        from aios_eccos.workload.embedded import stop_embedded

        ended = stop_embedded(state)
        yield "ended the embedded Redis" if ended else "no embedded Redis was running unused"
    if toolserver.clear(state):
        yield "ended the tool server of a kernel that was killed"


def _restore(path: Path, state: Path, note: Note | None) -> str:
    if not path.is_file():
        return f"{path} does not exist"
    raw = path.read_bytes()
    saved = state / "config.yaml.before"
    if note is not None and _digest(raw) == note.after and saved.is_file():
        if note.created:
            path.resolve().unlink()
            return f"removed {path}, which `enable` had made from config.yaml.example"
        files.write(path, saved.read_bytes(), synced=True)
        return f"restored {path}, byte for byte"
    text = raw.decode("utf-8")
    shipped = manifest()
    new = text
    router = edit.read_llms(text).get("router") or {}
    if router.get("strategy") == shipped.aios.strategy:
        before = note.strategy if note is not None else None
        new = edit.set_strategy(text, before or FALLBACK_STRATEGY)
    new = edit.drop_comment(edit.drop_block(new, shipped.default_config), PRICE_COMMENT)
    if new == text:
        return f"{path} has no strategy: eccos; nothing to change"
    files.write(path, new.encode("utf-8"), synced=True)
    kept = "; settings of yours in its eccos block stay" if "eccos:" in new else ""
    return f"took strategy: eccos out of {path}, which has other changes too{kept}"


def set_mode(path: Path, mode: str) -> None:
    """Write `mode` into the configuration file; `disable` still knows the file as its own.

    Raises:
        ConfigError: the file has no `eccos` block.
    """
    raw = path.read_bytes()
    new = edit.set_option(raw.decode("utf-8"), "mode", mode).encode("utf-8")
    # Not resolved: the file itself may be a link to somewhere else.
    state = state_dir_of(path.absolute().parents[2])
    note = _note(state)
    if note is not None and note.after == _digest(raw):
        fields = asdict(note) | {"after": _digest(new)}
        files.write(state / "enabled.json", json.dumps(fields).encode(), synced=True)
    files.write(path, new, synced=True)


def check_contract(home: Path) -> None:
    """Compare AIOS's sources with what the plugin relies on.

    Raises:
        KernelError: not a checkout of AIOS, or names the first points that moved.
    """
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
    written = yaml.safe_load(note.strategy) if note is not None and note.strategy else None
    return written if isinstance(written, str) else None


def _note(state: Path) -> Note | None:
    try:
        return Note(**json.loads((state / "enabled.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _read_config(home: Path) -> tuple[Path, bool, bytes]:
    path = home / CONFIG_IN_AIOS
    if path.is_file():
        return path, False, path.read_bytes()
    example = path.with_name("config.yaml.example")
    if not example.is_file():
        raise ConfigError(f"{home} has neither {CONFIG_IN_AIOS} nor its example")
    return path, True, example.read_bytes()


def _unpriced(entry: ModelEntry) -> bool:
    return state_of(with_facts(entry.model(), entry.backend)) == "unknown"


def _write_hook(hook: Path, module: str) -> str:
    line = HOOK_LINE.format(module=module).encode()
    if hook.is_file() and hook.read_bytes() == line:
        return f"the hook is in place already: {hook}"
    try:
        files.write(hook, line, mode=0o644, synced=True)
    except OSError as error:
        raise KernelError(f"the hook cannot be written: {error}") from error
    return f"wrote the hook {hook}"


def _remove_hook(hook: Path, state: Path) -> str:
    others = [found.parent for found in state_root().glob("*/enabled.json")]
    notes = [_note(folder) for folder in others if folder != state]
    if any(note is not None and note.hook == str(hook) for note in notes):
        return f"left the hook {hook}: another AIOS of this interpreter is enabled"
    if not hook.is_file():
        return f"the hook {hook} was removed already"
    try:
        hook.unlink()
    except OSError as error:
        raise KernelError(f"the hook cannot be removed: {error}") from error
    return f"removed the hook {hook}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
