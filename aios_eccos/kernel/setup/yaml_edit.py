"""Changes to AIOS's config.yaml that leave every other byte as it was.

A YAML library would write the operator's quotes, spaces and line ends anew. So the parser only
says where a value stands (its marks), and the text is cut there.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import yaml

from aios_eccos.config.yaml_text import compose, load
from aios_eccos.errors import ConfigError

#: What its errors call the text.
FILE = "config.yaml"


def switch_on(text: str, strategy: str, block: str, comment: str, unpriced: Sequence[str]) -> str:
    """The configuration with our strategy, our block unless there is one, and price reminders.

    `block` and, below each model of `unpriced`, `comment` are lines, unindented. A ConfigError: no
    `llms` mapping to put it into, or no place that takes it as it is.
    """
    before = read_llms(text)
    router = before.get("router") or {}
    after = {"eccos": load(block, "plugin.yaml")} | router | {"strategy": strategy}
    with suppress(ConfigError):
        if router:
            new = put(text, ("router", "strategy"), strategy)
            new = new if "eccos" in router else put(new, ("router", "eccos"), block)
        else:
            lines = f"strategy: {strategy}\neccos:\n{textwrap.indent(block, '  ')}"
            new = put(text, ("router",), lines)
        for name in unpriced:
            new = _with_comment(new, name, comment)
        if read_llms(new) == before | {"router": after}:
            return new
    raise ConfigError(
        "llms.router: cannot be edited in place as it is written; write `router:` and, on a line "
        "of its own below, `strategy: sequential`, then enable again"
    )


def put(text: str, path: Sequence[str], value: str) -> str:
    """The configuration with a key set in a mapping that is there and has keys.

    `path` leads there from `llms`. `value` is plain, or lines of a mapping, unindented; those come
    last in their mapping.
    """
    mapping = _llms(text)
    for name in path[:-1]:
        mapping = get(mapping, name)
    return _put(text, mapping, path[-1], value)


def set_key(text: str, model: str, key: str, value: str) -> str:
    """The configuration with one key of a model's entry set to a plain value."""
    for entry in _entries(text):
        if getattr(get(entry, "name"), "value", None) == model:
            return _put(text, entry, key, value)
    raise ConfigError(f"llms.models: no entry is named {model!r}")


def _put(text: str, mapping: Any, key: str, value: str) -> str:
    lines = value.endswith("\n")
    inline = _flow(value) if lines else value
    node = get(mapping, key)
    if node is not None:
        start, end = node.start_mark.index, node.end_mark.index
        # An empty value stands right behind its colon.
        return text[:start] + (inline if start < end else f" {inline}") + text[end:]
    first = mapping.value[0][0].start_mark
    if mapping.flow_style:
        return text[: first.index] + f"{key}: {inline}, " + text[first.index :]
    added = f"{key}:\n{textwrap.indent(value, '  ')}" if lines else f"{key}: {value}\n"
    return _insert(text, _end(text, mapping), added, first.column)


def set_option(text: str, key: str, value: str) -> str:
    """The configuration with one key of the `eccos` block set to a plain value."""
    block = get(get(_llms(text), "router"), "eccos")
    if not isinstance(block, yaml.MappingNode) or not block.value:
        raise ConfigError("llms.router.eccos: no such block; run `aios-eccos enable` first")
    return put(text, ("router", "eccos", key), value)


def drop_block(text: str, default: object) -> str:
    """The configuration without the `eccos` block, if that is still the `default`."""
    router = get(_llms(text), "router")
    if get(router, "eccos") is None or load(text, FILE)["llms"]["router"]["eccos"] != default:
        return text
    return _without(text, router, "eccos")


def drop_comment(text: str, comment: str) -> str:
    """The configuration without a comment of ours, wherever it stands and however indented."""
    return re.sub(f"(?m)^{_pattern(comment)}", "", text)


def strategy_of(text: str) -> str | None:
    """The strategy's scalar as it is written, quotes and all; None if there is none."""
    value = get(get(_llms(text), "router"), "strategy")
    return None if value is None else text[value.start_mark.index : value.end_mark.index]


def get(node: Any, key: str) -> Any:
    """The value node of a mapping's key; None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def read_llms(text: str) -> dict[str, Any]:
    """What the configuration says of `llms`; its router may be missing or null."""
    _llms(text)
    found: dict[str, Any] = load(text, FILE)["llms"]
    router = found.get("router")
    if router is not None and not isinstance(router, dict):
        raise ConfigError(f"llms.router: wanted a mapping, found {type(router).__name__}")
    return found


def _llms(text: str) -> Any:
    llms = get(compose(text, FILE), "llms")
    if not isinstance(llms, yaml.MappingNode) or not llms.value:
        raise ConfigError("llms: missing; AIOS's config.yaml lists its models there")
    return llms


def _entries(text: str) -> Sequence[Any]:
    models = get(_llms(text), "models")
    return models.value if isinstance(models, yaml.SequenceNode) else ()


def _with_comment(text: str, name: str, comment: str) -> str:
    """The text with a comment on the lines after a model's entry, at its indentation."""
    for item in _entries(text):
        named = get(item, "name")
        if named is not None and named.value == name:
            at = _end(text, item)
            # However indented: on a line of several models, what stands before them moves them.
            if not re.compile(_pattern(comment)).match(text, at):
                return _insert(text, at, comment, item.start_mark.column)
    return text


def _pattern(comment: str) -> str:
    return "".join(rf"[ \t]*{re.escape(line)}\r?\n" for line in comment.splitlines())


def _without(text: str, router: Any, key: str) -> str:
    """The text without a key of a mapping, its lines or its part of the flow."""
    pairs = router.value
    index = next(i for i, (name, _) in enumerate(pairs) if name.value == key)
    name, value = pairs[index]
    start, end = name.start_mark.index, value.end_mark.index
    if router.flow_style:
        if index + 1 < len(pairs):
            end = pairs[index + 1][0].start_mark.index
        elif index:
            start = pairs[index - 1][1].end_mark.index
        return text[:start] + text[end:]
    return text[: text.rfind("\n", 0, start) + 1] + text[_end(text, value) :]


def _insert(text: str, at: int, lines: str, column: int) -> str:
    """The text with lines at the beginning of a line, indented, with the file's line ends."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lead = "" if text[:at].endswith("\n") else newline
    return (
        text[:at] + lead + textwrap.indent(lines, " " * column).replace("\n", newline) + text[at:]
    )


def _end(text: str, node: Any) -> int:
    """Index after the last line of a node; a block's own end mark lies behind what follows it."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        node = node.value[-1]
        if isinstance(node, tuple):
            key, value = node
            # An alias has the marks of its anchor, which stands elsewhere.
            node = value if value.start_mark.index > key.start_mark.index else key
    # One less: the mark of a text block is on the line after it.
    found = text.find("\n", node.end_mark.index - 1)
    return len(text) if found < 0 else found + 1


def _flow(lines: str) -> str:
    values = load(lines, FILE)
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10**6).strip()
