"""What a model is asked, zero-shot, one template per grader; the texts are in data/prompts.yaml.

A template that changes changes the keys of the journal, so that a resumed run asks again.
"""

from __future__ import annotations

import json
import re

import yaml

from aios_eccos.collect.extract import final_part
from aios_eccos.collect.questions import SHIPPED, Grader, Question

_TEXTS = yaml.safe_load((SHIPPED.parent / "prompts.yaml").read_text(encoding="utf-8"))
TEMPLATES: dict[Grader, str] = _TEXTS["model"]
JUDGE: str = _TEXTS["judge"]
#: Characters of an answer, from its end, that a judge sees.
JUDGED = 20_000
_VERDICT = re.compile(
    r"""(?<![A-Za-z])["']?correct["']?\s{0,9}:\s{0,9}["']?(true|false)\b""", re.IGNORECASE
)


def prompt_for(question: Question) -> str:
    schema = json.dumps(question.schema, sort_keys=True)
    return TEMPLATES[question.grader].format(query=question.query, schema=schema)


def judge_prompt(question: Question, answer: str) -> str:
    return JUDGE.format(query=question.query, reference=question.answer, answer=answer[-JUDGED:])


def read_verdict(reply: str) -> bool | None:
    """A judge's verdict, the last that it gives; None if it gave none.

    It is the value of `correct` in whatever object has it. Where no object can be read, as the
    reason breaks off or the notation is another one, the key and the word behind it count.
    """
    text = final_part(reply)[-JUDGED:]
    verdict, place, decoder = None, text.find("{"), json.JSONDecoder()
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            found, end = {}, place + 1
        verdict = _verdict(found.get("correct", found.get("Correct")), verdict)
        place = text.find("{", end)
    if verdict is None:
        words = _VERDICT.findall(text)
        return _verdict(words[-1], None) if words else None
    return verdict


def _verdict(value: object, before: bool | None) -> bool | None:
    words = {"true": True, "false": False}
    return value if isinstance(value, bool) else words.get(str(value).lower(), before)
