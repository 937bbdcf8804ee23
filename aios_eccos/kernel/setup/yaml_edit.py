"""Changes to AIOS's config.yaml that leave every other byte as it was.

A YAML library that writes the file anew keeps comments at best; the operator's quotes, spaces and
line ends go. So the parser only says where a value stands (its marks), and the text is cut there.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from aios_eccos.config.yaml_text import compose, load
from aios_eccos.errors import ConfigError

#: What its errors call the text.
FILE = "config.yaml"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `text[start:end]` by `new`."""

    start: int
    end: int
    new: str


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text after all edits, whose ranges must not overlap; at one place, in their order."""
    for edit in sorted(edits, key=lambda e: (e.start, e.end))[::-1]:
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def switch_on(text: str, strategy: str, block: str, comment: str, unpriced: Sequence[str]) -> str:
    """The configuration with our strategy, our block unless there is one, and price reminders.

    Args:
        block: lines of the `eccos` block, unindented.
        comment: lines that go below each model of `unpriced`, unindented.

    Raises:
        ConfigError: there is no `llms` mapping to put it into, or no place that takes it as it is.
    """
    before = read_llms(text)
    llms = _llms(text)
    prices = [_price_edit(text, item, comment) for item in _models(llms, unpriced)]
    newline = "\r\n" if "\r\n" in text else "\n"
    new = apply(text, [*prices, *_router_edits(text, llms, strategy, block, newline)])
    router = {"eccos": load(block, "plugin.yaml")} | (before.get("router") or {})
    with suppress(ConfigError):
        if read_llms(new) == before | {"router": router | {"strategy": strategy}}:
            return new
    raise ConfigError(
        "llms.router: cannot be edited in place as it is written; write `router:` and, on a line "
        "of its own below, `strategy: sequential`, then enable again"
    )


def _router_edits(text: str, llms: Any, strategy: str, block: str, newline: str) -> Iterator[Edit]:
    first = llms.value[0][0].start_mark
    router = get(llms, "router")
    flow = f"strategy: {strategy}, eccos: {_flow(block)}"
    if router is None and llms.flow_style:
        yield Edit(first.index, first.index, f"router: {{{flow}}}, ")
    elif router is None:
        lines = f"router:\n  strategy: {strategy}\n  eccos:\n{textwrap.indent(block, '    ')}"
        at = _line_start(text, first.index)
        yield Edit(at, at, _indented(lines, " " * first.column, newline))
    elif not isinstance(router, yaml.MappingNode):
        yield _put(router, f"{{{flow}}}")
    elif not router.value:
        at = router.end_mark.index - 1
        yield Edit(at, at, flow)
    else:
        value = get(router, "strategy")
        present = get(router, "eccos") is not None
        if router.flow_style:
            yield _flow_edit(router, value, strategy, "" if present else f"eccos: {_flow(block)}")
        else:
            yield from _block_edits(
                text, router, value, strategy, "" if present else block, newline
            )


def _block_edits(
    text: str, router: Any, value: Any, strategy: str, block: str, newline: str
) -> Iterator[Edit]:
    indent = " " * router.value[0][0].start_mark.column
    ours = f"eccos:\n{textwrap.indent(block, '  ')}" if block else ""
    if value is None:
        at = _line_start(text, router.value[0][0].start_mark.index)
        yield Edit(at, at, _indented(f"strategy: {strategy}\n{ours}", indent, newline))
        return
    yield _put(value, strategy)
    at = _line_end(text, value.end_mark.index)
    lead = "" if text[:at].endswith("\n") else newline
    yield Edit(at, at, lead + _indented(ours, indent, newline) if ours else "")


def _flow_edit(router: Any, value: Any, strategy: str, mapping: str) -> Edit:
    if value is None:
        at = router.value[0][0].start_mark.index
        return Edit(at, at, f"strategy: {strategy}, {mapping + ', ' if mapping else ''}")
    tail = f", {mapping}" if mapping else ""
    return _put(value, strategy + tail)


def _put(node: Any, new: str) -> Edit:
    """Replace a value; an empty one stands right behind its colon."""
    start, end = node.start_mark.index, node.end_mark.index
    return Edit(start, end, new if start < end else f" {new}")


def set_strategy(text: str, strategy: str) -> str:
    """The configuration with AIOS's strategy set, where it has one."""
    value = get(get(_llms(text), "router"), "strategy")
    if value is None:
        return text
    return apply(text, [_put(value, strategy)])


def set_option(text: str, key: str, value: str) -> str:
    """The configuration with one key of the `eccos` block set to a plain value.

    Raises:
        ConfigError: there is no `eccos` block.
    """
    block = get(get(_llms(text), "router"), "eccos")
    if not isinstance(block, yaml.MappingNode) or not block.value:
        raise ConfigError("llms.router.eccos: no such block; run `aios-eccos enable` first")
    node = get(block, key)
    if node is not None:
        return apply(text, [_put(node, value)])
    first = block.value[0][0].start_mark
    gap = ", " if block.flow_style else "\n" + " " * first.column
    return apply(text, [Edit(first.index, first.index, f"{key}: {value}{gap}")])


def drop_block(text: str, default: object) -> str:
    """The configuration without the `eccos` block, if that is still the `default`."""
    router = get(_llms(text), "router")
    node = get(router, "eccos")
    if node is None or load(text, FILE)["llms"]["router"]["eccos"] != default:
        return text
    return _without(text, router, "eccos")


def drop_comment(text: str, comment: str) -> str:
    """The configuration without a comment of ours, wherever it stands and however indented."""
    return re.sub(f"(?m)^{_pattern(comment)}", "", text)


def _pattern(comment: str) -> str:
    return "".join(rf"[ \t]*{re.escape(line)}\r?\n" for line in comment.splitlines())


def strategy_of(text: str) -> str | None:
    """The strategy's scalar as it is written, quotes and all; None if there is none."""
    value = get(get(_llms(text), "router"), "strategy")
    return None if value is None else text[value.start_mark.index : value.end_mark.index]


def get(node: Any, key: str) -> Any:
    """The value node of a mapping's key; None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def read_llms(text: str) -> dict[str, Any]:
    """What the configuration says of `llms`; its router may be missing or null.

    Raises:
        ConfigError: it is no YAML, has no `llms`, or a router that is no mapping.
    """
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


def _models(llms: Any, names: Sequence[str]) -> Iterator[Any]:
    models = get(llms, "models")
    for item in models.value if isinstance(models, yaml.SequenceNode) else ():
        name = get(item, "name")
        if name is not None and name.value in names:
            yield item


def _price_edit(text: str, item: Any, comment: str) -> Edit:
    """The comment on the lines after a model's entry, at its indentation."""
    at = _end(text, item)
    # However indented: on a line of several models, what is written before them moves them.
    if re.compile(_pattern(comment)).match(text, at):
        return Edit(at, at, "")
    newline = "\r\n" if "\r\n" in text else "\n"
    lead = "" if text[:at].endswith("\n") else newline
    indent = " " * (item.start_mark.column)
    return Edit(at, at, lead + _indented(comment, indent, newline))


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
    return text[: _line_start(text, start)] + text[_end(text, value) :]


def _end(text: str, node: Any) -> int:
    """Index after the last line of a node; a block's own end mark lies behind what follows it."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        node = node.value[-1]
        if isinstance(node, tuple):
            key, value = node
            # An alias has the marks of its anchor, which stands elsewhere.
            node = value if value.start_mark.index > key.start_mark.index else key
    # One less: the mark of a text block is on the line after it.
    return _line_end(text, node.end_mark.index - 1)


def _flow(block: str) -> str:
    pairs = load(block, "plugin.yaml").items()
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"


def _indented(lines: str, indent: str, newline: str) -> str:
    return textwrap.indent(lines, indent).replace("\n", newline)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Index after the line break that ends the line of `index`."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1
