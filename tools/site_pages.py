"""Pages of the site that are made from the code or lie elsewhere; mkdocs calls `on_files`."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from aios_eccos.cli.main import COMMANDS, app
from aios_eccos.observe.http import routes

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them to the pages that mkdocs has found."""
    pages = {
        "index.md": _moved("README.md"),
        "changelog.md": _moved("CHANGELOG.md"),
        "commands.md": "\n".join(_commands()),
        "http.md": "\n".join(_routes()),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _moved(name: str) -> str:
    """A text of the root, its links as from docs/."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def _commands() -> Iterator[str]:
    """What `--help` says of each command, and of each of a group's."""
    yield "# Commands\n\nWhat `aios-eccos COMMAND --help` says."
    group = typing.cast(click.Group, typer.main.get_command(app))
    with click.Context(group, info_name="aios-eccos") as root:
        for name in COMMANDS:
            yield from _help(group.get_command(root, name), f"aios-eccos {name}", 2)


def _help(command: Any, words: str, level: int) -> Iterator[str]:
    # Typer's own click may be another one, so commands are taken as they come.
    with command.make_context(words, [], resilient_parsing=True) as ctx:
        text = command.get_help(ctx)
    yield f"\n{'#' * level} {words}\n\n```text\n{text}\n```"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _help(inner, f"{words} {name}", level + 1)


def _routes() -> Iterator[str]:
    """The routes under /eccos/, and the fields of what they answer."""
    yield "# HTTP\n\nOpenAPI describes the same on a living kernel, under `/docs`.\n"
    yield "| route | answers | |\n|---|---|---|"
    found = routes(_no_reader, lambda status, reason: RuntimeError(reason))
    shapes: dict[str, type] = {}
    for route in found:
        _collect(route.answers, shapes)
        kind = route.answers.__name__ if route.answers else route.kind
        shown = f"[`{kind}`](#{kind.lower()})" if route.answers else kind
        says = " ".join((route.endpoint.__doc__ or "A page for the browser.").split())
        yield f"| `{route.method} {route.path}` | {shown} | {says} |"
    for name, shape in shapes.items():
        yield f"\n## {name}\n\n{' '.join((shape.__doc__ or '').split())}\n"
        yield "| field | type |\n|---|---|"
        for field, kind in typing.get_type_hints(shape).items():
            yield f"| `{field.rstrip('_')}` | `{_kind(kind)}` |"


def _no_reader() -> Any:
    raise RuntimeError("the site asks nothing")


def _collect(kind: Any, shapes: dict[str, type]) -> None:
    """Add a shape, and those of its fields, in the order of their first mention."""
    fields = dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")
    if fields and kind.__name__ not in shapes:
        shapes[kind.__name__] = typing.cast(type, kind)
        for inner in typing.get_type_hints(kind).values():
            _collect(inner, shapes)
    for inner in typing.get_args(kind):
        _collect(inner, shapes)


def _kind(kind: Any) -> str:
    text = str(kind) if typing.get_args(kind) or isinstance(kind, UnionType) else kind.__name__
    return re.sub(r"(?:\w+\.)+(\w)", r"\1", text).replace("|", "or").replace("NoneType", "None")
