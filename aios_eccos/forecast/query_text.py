"""Which text of an agent's call is forecast on: which message, and what is read of it.

Agents wrap their question (instructions, a format, tools), and a wrapped one looks unlike all that
the history holds. So of the message that asks go the lines that the same agent sends with nearly
every call, and of a long rest the passage that asks is read. Only hashes of lines are remembered,
salted anew in every process: 20 MB at the very most.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aios_eccos.history.embed.gist import passage
from aios_eccos.providers.tokens import text_of
from aios_eccos.values import Query, Reading

#: Texts remembered per agent, as hashes of their lines; agents remembered.
REMEMBERED, AGENTS = 16, 128
#: Texts of an agent from which on its template is told from its questions.
ENOUGH = 4
#: A line that stands in this share of the remembered texts belongs to the template.
COMMON = 0.6
#: Lines looked at in a text; what is further down is kept as it is.
MAX_LINES = 200
#: Fewest words and numbers that a question is made of; less, such as a changing id, is none.
WORDS = 3

#: Longest message, in characters, that may merely go on with another.
SHORT = 80
#: A message that goes on with what was asked before, and asks nothing itself.
_GOES_ON = re.compile(
    r"(?i)\W*(?:(?:please|ok(?:ay)?|yes|now|and|then|so|great|good|thanks?|thank you)\b\W*)*(?:"
    r"continue|go (?:on|ahead)|proceed|begin|start|resume|keep going|carry on|next|do (?:it|so)|"
    r"try again|retry|weiter|mach weiter|continuez?|sigue|contin[uú]a|继续|请继续|続けて)?"
    r"(?:\W+(?:please|now|again|then|step|the task|working|with it|from there))*\W*"
)
#: A message that says which step of what was asked before is next, or how it is planned.
_STEP = re.compile(r"(?i)\W*(?=\w)(?:(?:at |now |next,? )*(?:do )?step \d|thinking\W)")
#: Parts of a message that are a tool's results, in the spellings of several servers.
_RESULTS = "tool_result", "toolResult", "tool-result", "function_call_output"

_LABEL = re.compile(
    r"\A\s*(?:#+\s*)?\**(?:question|task|problem|query|input|user|request)\**\s*:\**\s*", re.I
)


def asked(messages: Sequence[object]) -> tuple[str, str]:
    """The text that asks, and in words whose it is.

    The last user message. Where that goes on with an earlier one ("continue") or names a step of
    it, that one is meant. Where no user says anything else, the last system message; else the last
    with any text.
    """
    turns = [message for message in messages if isinstance(message, Mapping)]
    said = {
        role: [text for turn in turns if turn.get("role") == role and (text := _own_text(turn))]
        for role in ("user", "system")
    }
    own = [text for text in said["user"] if not _goes_on(text)]
    tasks = [text for text in own if not _STEP.match(text)] or own
    if tasks:
        before = tasks[-1] != said["user"][-1]
        return tasks[-1], "user message before" if before else "last user message"
    if said["system"]:
        return said["system"][-1], "system message"
    rest = (text for turn in reversed(turns) if (text := text_of(turn.get("content"))))
    return next(rest, ""), "last message"


def _goes_on(text: str) -> bool:
    return len(text) <= SHORT and _GOES_ON.fullmatch(text) is not None


def _own_text(message: Mapping[object, object]) -> str:
    """A message's text without results of tools."""
    content = message.get("content")
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, Mapping))
        content = [part for part in parts if part.get("type") not in _RESULTS]
    return text_of(content)


class TemplateFilter:
    """Takes an agent's template off its texts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, deque[frozenset[int]]] = OrderedDict()
        self._lock = threading.Lock()

    def narrowed(self, query: Query) -> Query:
        """The query with what is read of its text in the text's place."""
        whole, source = query.text, query.reading.source if query.reading else "text"
        rest = self.question(query.agent, whole)
        start, end, rule = passage(rest)
        text = rest[start:end]
        if rest != whole:
            # Lines in between may have gone too, so both ends are looked for.
            rule = "template left out" if rule == "whole" else f"template left out, {rule}"
            first, last = text.split("\n")[0], text.split("\n")[-1]
            start = max(whole.find(first), 0)
            end = whole.find(last, start) + len(last)
        return replace(query, text=text, reading=Reading(source, rule, start, end, len(whole)))

    def question(self, agent: str, text: str) -> str:
        """The text without the lines that nearly all recent texts of the agent share.

        The text itself is remembered too (as hashes, in memory only). Where hardly anything would
        be left, as when the same question is asked again and again, the text stays whole.
        """
        lines = text.split("\n")
        keys = [hash(line.strip()) for line in lines[:MAX_LINES]]
        common = self._common(agent, frozenset(keys))
        if not common:
            return text
        kept = [
            line
            for place, line in enumerate(lines)
            if place >= MAX_LINES or not line.strip() or keys[place] not in common
        ]
        rest = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
        rest = _LABEL.sub("", rest).strip() if rest != text.strip() else text
        return rest if len(re.findall(r"\w+", rest)) >= WORDS else text

    def _common(self, agent: str, keys: frozenset[int]) -> set[int]:
        with self._lock:
            recent = self._seen.setdefault(agent, deque(maxlen=REMEMBERED))
            self._seen.move_to_end(agent)
            if len(self._seen) > AGENTS:
                self._seen.popitem(last=False)
            # A text that grows, as a loop of thoughts and observations does, is one text.
            grown = next((i for i, text in enumerate(recent) if text <= keys), None)
            if grown is not None:
                del recent[grown]
            recent.append(keys)
            if len(recent) < ENOUGH:
                return set()
            counts = Counter(key for text in recent for key in text)
            blank = hash("")
            need = COMMON * len(recent)
            return {key for key, count in counts.items() if count >= need and key != blank}
