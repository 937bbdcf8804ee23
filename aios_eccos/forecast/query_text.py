"""Which text of an agent's call is forecast on.

Agents wrap their question (instructions, a format, tools), and a wrapped one looks unlike all that
the history holds. So of the last user turn go the lines that the same agent sends with nearly every
call. Only hashes of lines are remembered, salted anew in every process: 20 MB at the very most.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict, deque

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

_LABEL = re.compile(
    r"\A\s*(?:#+\s*)?\**(?:question|task|problem|query|input|user|request)\**\s*:\**\s*", re.I
)


class TemplateFilter:
    """Takes an agent's template off its texts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, deque[frozenset[int]]] = OrderedDict()
        self._lock = threading.Lock()

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
