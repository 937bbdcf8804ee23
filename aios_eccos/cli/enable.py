"""`aios-eccos enable | disable | init | run | mode`: the plugin in and out of an AIOS checkout."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

import aios_eccos.kernel
from aios_eccos.cli.output import bar, console, draw_table
from aios_eccos.config import ModelEntry, parse_models, parse_share
from aios_eccos.errors import ConfigError, EccosError, KernelError
from aios_eccos.history.embed.embedding import find_embedder
from aios_eccos.kernel import client
from aios_eccos.kernel.setup import install, interpreter
from aios_eccos.kernel.setup.propose import Served, ask, propose
from aios_eccos.kernel.setup.yaml_edit import read_llms
from aios_eccos.locate import last_enabled, load_config, locate, remember_enabled

WHICH = "which AIOS? Name its checkout with --aios-home DIR"
Home = Annotated[Path | None, typer.Option(help="AIOS's checkout; default: $AIOS_HOME.")]
Python = Annotated[str, typer.Option(help="The interpreter that runs AIOS; default: this one.")]
Keys: TypeAlias = list[install.ModelKey]


def _home(aios_home: Path | None) -> Path:
    named = os.environ.get("AIOS_HOME")
    home = aios_home or (Path(named) if named else last_enabled())
    if home is None:
        raise ConfigError(WHICH)
    if not home.is_dir():
        raise ConfigError(f"--aios-home {home}: no such folder")
    return home


def enable(
    aios_home: Home = None,
    python: Python = sys.executable,
    observe: Annotated[
        bool, typer.Option("--observe", help="Decide and log, but serve AIOS's own choice.")
    ] = False,
    audit: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Earn savings without labels, for such a share: 5%."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who compares answers that differ.")
    ] = None,
) -> None:
    """Switch the plugin on in an AIOS checkout. Restart the kernel afterwards."""
    home = _home(aios_home)
    options = {"mode": "observe"} if observe else {}
    options |= {"audit": share_text(audit)} if audit is not None else {}
    options |= {"judge": json.dumps(judge)} if judge is not None else {}
    first = install.note_of(home) is None and sys.stdin.isatty() and sys.stdout.isatty()
    keys = _proposed(home, options) if first else []
    _enable(home, python, options, keys)


def init(
    aios_home: Home = None,
    python: Python = sys.executable,
    reach: Annotated[
        bool, typer.Option("--reach", help="Ask the models' servers what they have.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without a question.")] = False,
) -> None:
    """Propose settings with reasons, show what would change, and switch the plugin on."""
    home, options = _home(aios_home), dict[str, str]()
    keys = _proposed(home, options, reach, yes, alone=True)
    _enable(home, python, options, keys)


def _proposed(
    home: Path, options: dict[str, str], reach: bool = False, yes: bool = False, alone: bool = False
) -> Keys:
    """Models' keys to write; adds settings to `options`, which win. None of it without a yes.

    Where that is asked for `alone`, a no ends the command.
    """
    before, _ = install.preview(home, {}, ())
    llms = read_llms(before)
    entries = parse_models(llms.get("models"))
    served = _asked(entries) if reach else {}
    for name, says in served.items():
        if says.remark:
            typer.echo(f"{name}: {says.remark}", err=True)
    block = {**((llms.get("router") or {}).get("eccos") or {}), **options}
    found = [*propose(entries, block, served)]
    keys = [(each.model, each.key, each.value) for each in found if each.model is not None]
    wanted = options | {each.key: each.value for each in found if each.model is None}
    if not found:
        return []
    rows = [
        {"for": each.model or "all calls", "key": each.key, "value": each.value, "why": each.why}
        for each in found
    ]
    console().print(draw_table(rows, words=("key", "value", "why")))
    _, after = install.preview(home, wanted, keys)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "now", "then", n=1)
    typer.echo("\n".join(line.rstrip("\n") for line in lines))
    question = "Write that?" if alone else "Write that? (no: only the plugin is switched on)"
    if not yes and not typer.confirm(question, abort=alone, err=True):
        return []
    options.update(wanted)
    return keys


def _asked(entries: Sequence[ModelEntry]) -> dict[str, Served]:
    """What the models' servers say of themselves."""
    served = {}
    with bar("asking servers", len(entries)) as advance:
        for entry in entries:
            served[entry.name] = ask(entry)
            advance(1)
    return served


def _enable(home: Path, python: str, options: dict[str, str], keys: Keys) -> None:
    for line in install.enable(home, python, options, keys):
        typer.echo(line)
    remember_enabled(home)
    try:
        # The one place where the embedder may be downloaded: never on a call's way.
        wanted = load_config(locate(aios_home=home)).settings.embedder
        source = find_embedder(wanted, allow_download=True)
        typer.echo(f"embedder: {source.name} ({source.found_in})")
    except EccosError as error:
        typer.echo(f"calls will be routed on priors, there is no embedder: {error}", err=True)


def disable(aios_home: Home = None) -> None:
    """Switch the plugin off and restore AIOS's configuration."""
    home = _home(aios_home)
    known = last_enabled()
    for line in install.disable(home):
        typer.echo(line)
    if known is not None and known.resolve() == home.resolve():
        remember_enabled(None)


def run(
    command: Annotated[
        list[str], typer.Argument(help="How AIOS is started, e.g. python -m runtime.launch.")
    ],
) -> None:
    """Load the plugin into one start of AIOS, whatever its strategy; nothing is installed.

    Write `--` before the command.
    """
    program = shutil.which(command[0])
    if program is None:
        raise KernelError(f"run: {command[0]}: no such command")
    python = program if "python" in Path(program).name else shutil.which("python")
    if python is not None:
        interpreter.probe(python)
    once = Path(aios_eccos.kernel.__file__).with_name("preload")
    paths = filter(None, [str(once), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "AIOS_ECCOS": "run", "PYTHONPATH": os.pathsep.join(paths)}
    sys.stdout.flush()
    os.execve(program, command, environment)


def mode(
    wanted: Annotated[str, typer.Argument(metavar="MODE", help="route, observe or canary.")],
    aios_home: Home = None,
) -> None:
    """Choose between route, observe and canary, in the configuration and in a living kernel."""
    if wanted not in ("route", "observe", "canary"):
        raise ConfigError(f"mode {wanted!r}: allowed are route, observe and canary")
    switch("mode", wanted, {"mode": wanted}, aios_home)


def share_text(text: str) -> str:
    """A share of money as YAML has it, `5 %` or `off`; a ConfigError where it is none."""
    try:
        share = parse_share(text)
    except ValueError as error:
        raise ConfigError(f"audit {text!r}: {error}") from None
    return f"{share * 100:g} %" if share else "off"


def switch(key: str, value: str, body: object, aios_home: Path | None) -> None:
    """Write a setting into the configuration, and tell a living kernel of it."""
    location = locate(aios_home=aios_home)
    if location.config_path is None:
        raise ConfigError(WHICH)
    install.set_option(location.config_path, key, value)
    typer.echo(f"wrote {key}: {value} into {location.config_path}")
    living = client.ask(load_config(location), f"/eccos/{key}", body)
    follows = "the living kernel follows" if living else "no kernel answers; it holds at its start"
    typer.echo(follows)
