"""Texts that agents put around a question: stories, JSON, chats, notes, code and manuals."""

from __future__ import annotations

import functools
import random
import string
from pathlib import Path
from typing import Any

import yaml

DATA = yaml.safe_load((Path(__file__).parents[2] / "data" / "padding.yaml").read_text("utf-8"))
#: Kinds that the weights of the reading were fitted in; the others were held out of the fit. `code`
#: and `manual` are real ones, of Python's own library.
CHOOSING = "prose", "json"
KINDS = (*CHOOSING, "chat", "notes", "code", "manual")
AGENTS: dict[str, list[dict[str, str]]] = DATA["agents"]
#: Where a question stands in what is around it: the share of the padding before it.
PLACES = {"before": 1.0, "after": 0.0, "around": 0.5}


def padding(kind: str, size: int, seed: int) -> str:
    """About `size` characters of a kind, others for each seed."""
    draw = random.Random(f"{kind} {seed}")
    if kind not in DATA["kinds"]:
        lines = _code() if kind == "code" else _manual()
        start = draw.randrange(len(lines) - size // 8)
        return "\n".join(lines[start : start + size])[:size].strip()
    parts: list[str] = []
    left = size
    while left > 0:
        part = string.Formatter().vformat(draw.choice(DATA["kinds"][kind]), (), _Drawn(draw))
        parts.append(part + "\n\n" * (kind == "prose" and draw.random() < 0.15))
        left -= len(part) + 1
    return str(DATA["joints"][kind]).join(parts).strip()


class _Drawn(dict[str, str]):
    """A word of each list, drawn whenever it is asked for."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def __missing__(self, key: str) -> str:
        if key in "nd":
            return str(self._draw.randint(10, 99) if key == "n" else self._draw.randint(1, 9))
        word = self._draw.choice(DATA["words"][key.lower()])
        return str(word.capitalize() if key[0].isupper() else word)


@functools.cache
def _code() -> list[str]:
    """Lines of the modules that Python comes with."""
    files = sorted(Path(random.__file__).parent.glob("[a-z]*.py"))
    return "\n".join(file.read_text("utf-8", "replace") for file in files).split("\n")


@functools.cache
def _manual() -> list[str]:
    """Lines of Python's reference manual."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics.values()).split("\n")


def around(text: str, place: str, pad: str) -> str:
    """The text with the padding before it, after it, or half on either side."""
    cut = round(len(pad) * PLACES[place])
    if 0 < cut < len(pad):
        cut = pad.rfind("\n", 0, cut) + 1 or pad.find(" ", cut)
    return "\n\n".join(part for part in (pad[:cut].strip(), text, pad[cut:].strip()) if part)


def of_agent(name: str, text: str, pad: str) -> list[dict[str, Any]]:
    """The messages that an agent would send."""
    return [
        message | {"content": message["content"].replace("{pad}", pad).replace("{text}", text)}
        for message in AGENTS[name]
    ]
