"""Configuration files as text and as YAML. What is wrong with one is told in one line.

YAML's own messages quote the line, which may hold a key; so places are named and nothing is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from aios_eccos.errors import ConfigError

#: Values that a file may stand for once its aliases are written out.
MOST_VALUES = 100_000
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def decode(raw: bytes, where: str) -> str:
    """A file's text; a `ConfigError` names the byte that is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        kind = _BOMS.get(raw[:2], "not UTF-8")
        raise ConfigError(
            f"{where}: {kind}: byte 0x{raw[error.start]:02x} at position {error.start} "
            f"(line {line}); save the file as UTF-8"
        ) from None


def load(text: str, where: str) -> Any:
    """The document as plain values.

    A ConfigError says that it is no YAML, or that its aliases grow without measure.
    """
    return _read(text, where, lambda loader, node: node and loader.construct_document(node))


def compose(text: str, where: str) -> Any:
    """The document as nodes, which know their places in the text; see `load`."""
    return _read(text, where, lambda _, node: node)


def _read(text: str, where: str, take: Callable[[yaml.SafeLoader, yaml.Node | None], Any]) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        return take(loader, _checked(loader.get_single_node(), where))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ConfigError(f"{where}: {place}{_problem(error.problem or 'no YAML')}") from None
    except yaml.reader.ReaderError as error:
        place = f"character {error.position}: #x{error.character:04x}"
        raise ConfigError(f"{where}: {place} cannot stand in YAML") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:
        # What is tagged as a date, a number or a truth value, and is none.
        raise ConfigError(
            f"{where}: a value is not what it looks like: {_problem(str(error))}"
        ) from None


def _problem(words: str) -> str:
    hidden = re.sub(r"""'(?!<|tag:yaml)[^']{4,}'|"[^"]{4,}\"""", "'...'", words)
    return f"{hidden}; indent with spaces, not tabs" if r"'\t'" in hidden else hidden


def _checked(node: yaml.Node | None, where: str) -> yaml.Node | None:
    """The document, unless its aliases make it endless or huge."""
    sizes: dict[int, int] = {}

    def size(part: Any) -> int:
        """Values in a part; 0 stands for a part that is being counted."""
        if id(part) not in sizes:
            sizes[id(part)] = 0
            inner = part.value if isinstance(part, yaml.CollectionNode) else ()
            pairs = isinstance(part, yaml.MappingNode)
            children = [each for pair in inner for each in pair] if pairs else inner
            sizes[id(part)] = 1 + sum(size(child) for child in children)
        elif sizes[id(part)] == 0:
            raise ConfigError(f"{where}: line {part.start_mark.line + 1}: it contains itself")
        return sizes[id(part)]

    if node is not None and size(node) > MOST_VALUES:
        raise ConfigError(
            f"{where}: more than {MOST_VALUES:,} values, once its aliases are written out"
        )
    return node
