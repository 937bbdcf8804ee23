"""The final answer within a model's text, by the conventions of the public benchmarks.

Functions of a text alone, without a reference. Every search takes time linear in the text, and
only the last `TAIL` characters are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

#: Characters of an answer that are looked at; final answers stand at the end.
TAIL = 20_000
#: Statements that are considered, from the end.
PLACES = 20

#: Words and marks of final answers, as data.
WORDS = yaml.safe_load((Path(__file__).parents[1] / "data" / "answers.yaml").read_text("utf-8"))
_TAG, _LATIN, _OTHER, _IS, _SURELY, _ADJECTIVE = (
    "|".join(WORDS[name])
    for name in ("thoughts", "answer", "answer_without_blanks", "is", "surely", "adjective")
)
#: A mark right behind a quotation mark is spoken of, and neither opens nor closes anything.
_MARK = re.compile(
    rf"(?<![`\"'“‘«])(?:(?P<open><(?:{_TAG})(?:\s[^<>]{{0,80}})?>|\[THINK\]|◁think▷|<\|channel>thought\b"
    r"|<\|(?:begin_of_thought|START_THINKING|inner_prefix|think)\|>"
    r"|Here(?:'s| is) my thought process:)"
    rf"|</(?:{_TAG})\s?>|\[/THINK\]|◁/think▷|<channel\|>"
    r"|<\|(?:end_of_thought|END_THINKING|inner_suffix|/think)\|>|Here(?:'s| is) my response:)",
    re.IGNORECASE,
)
#: OpenAI's harmony format, with its special tokens and without them.
_HARMONY = re.compile(
    r"<\|channel\|>\s*(\w+)\b[^<]*<\|message\|>(.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_BARE_HARMONY = re.compile(r"\s*analysis(?=[A-Z(\"'])")
_END = re.compile(
    r"<\|(?:im_end|eot_id|end|return|endoftext|end_of_text|eom_id)\|>|</s>|<end_of_turn>|<eos>"
    r"|<｜end▁of▁sentence｜>"
)

_PHRASE = re.compile(
    rf"(?<!wrong )(?<!incorrect )(?:\b(?:{_LATIN})\b(?:\s(?:to|of|for|among)\b[^.:：\n]{{1,80}}?)?"
    rf"(?:\s(?:{_ADJECTIVE})\b)*[*_]{{0,3}}"
    rf"(?:\s{{1,9}}(?:{_IS})\b(?!\s{{1,9}}not\b)(?:\s(?:{_SURELY})\b)?\s{{0,9}}[:：]?|\s{{0,9}}[:：=])"
    rf"|(?:{_OTHER})(?:\s(?:{_ADJECTIVE}))*\s?(?:应该?|應)?(?:[:：ঃ=]|[是为為选選は은는이]|(?:{_IS})\b){{1,2}})"
    r"(?!\s{1,9}not\b)\s{0,9}[*_]{0,3}\s{0,9}(?=\S)",
    re.IGNORECASE,
)
_HEADING = re.compile(
    rf"^[#>*_ \t]{{0,9}}(?:(?:the|my|final|correct)\s){{0,2}}(?:{_LATIN}|{_OTHER})[*_ \t]{{0,9}}"
    r"\n\s{0,9}(?=\S)",
    re.MULTILINE | re.IGNORECASE,
)
_TAGGED = re.compile(r"<answer>\s{0,9}(?=(\S[^<]{0,2000}))", re.IGNORECASE)
_HASHES = re.compile(
    r"^####[ \t]{0,9}(?=(?:[^\w\s]{0,3}\d[\d.,/]{0,40}(?:[ \t%,(][^.\n]{0,80})?$|\S[^\n]*\Z))",
    re.MULTILINE,
)
_BOX = re.compile(r"(?:\\|\b)(?:boxed|fbox)\s{0,9}(?=\{|[\w\\])")
_BETWEEN_BOXES = re.compile(r"[\s$.,;]{0,9}(?:and|or|,|;|\\text\{ ?(?:and|or) ?\})?[\s$]{0,9}")
_JSON_KEY = re.compile(r"[\"'](?:final[_ ])?answer[\"']\s{0,9}:\s{0,9}", re.IGNORECASE)
_JSON_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"' + r"|'([^'\n]*)'", re.DOTALL)
_JSON_OTHER = re.compile(r"[^,}\]\n]+")
#: A model that does not stop goes on with a question of its own.
_NEXT_QUESTION = re.compile(
    r"^[#*_ \t]{0,9}(?:question|q|problem|exercise|human|user|instruction)(?:\s\d{1,3})?"
    r"[*_]{0,3}[:.]",
    re.MULTILINE | re.IGNORECASE,
)
_GLUED_START = re.compile(r"^([ \t]*(?:`{3,}|~{3,})\w*)[ \t]*(?=[{\[])", re.MULTILINE)
_GLUED_END = re.compile(r"^(.*[}\]][ \t]*)(`{3,}|~{3,})[ \t]*$", re.MULTILINE)
_DISPLAY = re.compile(r"(?:\\\[|\$\$)(.*?)(?:\\\]|\$\$)", re.DOTALL)
#: Words in LaTeX's math: what stands in the braces is meant.
WRAPPED = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textrm|textnormal|textit|mbox)\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Statement:
    """A place of an answer that says what the final answer is: `text`, None where it breaks off.

    `last`: whether nothing but this is left of the answer, or it is marked as final.
    """

    text: str | None
    last: bool = True


def split_thinking(content: str) -> tuple[str, str]:
    """A model's text as (thoughts, answer); a thought that does not end leaves no answer."""
    channels = list(_HARMONY.finditer(content))
    if channels:
        final = [m[2] for m in channels if m[1] == "final"]
        return "".join(m[2] for m in channels if m[1] != "final"), final[-1] if final else ""
    if _BARE_HARMONY.match(content):
        thoughts, found, answer = content.rpartition("assistantfinal")
        return (thoughts, answer) if found else (content, "")
    thoughts, answer, place = "", "", 0
    inside = ended = False
    end = len(content.rstrip())
    for mark in _MARK.finditer(content):
        opens = bool(mark["open"])
        if inside and opens:
            continue
        before = content[place : mark.start()]
        if inside:
            thoughts += before
        elif not (opens or ended) and mark.end() < end:
            # The prompt has opened the thought that this mark closes.
            thoughts, answer = answer + before, ""
        else:
            answer += before
        place, inside, ended = mark.end(), opens, ended or not opens
    return (content, "") if inside else (thoughts, answer + content[place:])


def final_part(content: str) -> str:
    """A model's answer without thoughts, and without what it wrote after its own end."""
    answer = split_thinking(content)[1]
    end = next((m for m in _END.finditer(answer) if answer[: m.start()].strip()), None)
    return answer[: end.start()] if end else answer


def statements(text: str) -> Iterator[Statement]:
    """The places that state the final answer, the most telling first.

    The last `"answer"` field of a JSON object (ZeroEval); then whatever stands last of
    `\\boxed{...}` (MATH), `#### ...` (GSM8K), `<answer>...</answer>` (DeepSeek-R1) and
    `answer is ...` or `Answer: ...` (MMLU-Pro, Minerva), in the languages of simple-evals.
    """
    text = text[-TAIL:].rstrip()
    places = _places(text)
    question = None if _NEXT_QUESTION.match(text.lstrip()) else _NEXT_QUESTION.search(text)
    if question and any(place < question.start() for place, _ in places):
        text = text[: question.start()].rstrip()
        places = [(place, kind) for place, kind in places if place < len(text)]
    for found in list(_JSON_KEY.finditer(text))[: -PLACES - 1 : -1]:
        yield Statement(_json_value(text, found.end()))
    places.sort(reverse=True)
    for number, (place, kind) in enumerate(places[:PLACES]):
        if kind == "box":
            earlier = [at for at, other in places[number + 1 : number + 9] if other == "box"]
            yield Statement(_boxes(text, place, earlier))
        elif kind == "tag":
            yield Statement(text[place:].split("</", 1)[0].strip())
        else:
            yield _line(text, place)


def _places(text: str) -> list[tuple[int, str]]:
    found = [(m.end(), "box") for m in _BOX.finditer(text)]
    found += [(m.end(), "tag") for m in _TAGGED.finditer(text)]
    for pattern in (_HASHES, _PHRASE, _HEADING):
        found += [(m.end(), "line") for m in pattern.finditer(text)]
    return found


def _json_value(text: str, place: int) -> str | None:
    literal = _JSON_STRING.match(text, place)
    if literal is not None:
        return _unescaped(literal) if literal[2] is None else literal[2]
    try:
        value, _ = json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError):
        other = _JSON_OTHER.match(text, place)
        return other[0].strip() if other else None
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _unescaped(literal: re.Match[str]) -> str:
    """Models often write LaTeX into JSON unescaped: `"\\frac"` would be a form feed and `rac`."""
    try:
        value = str(json.loads(literal[0], strict=False))
    except ValueError:
        return literal[1]
    return literal[1] if _CONTROL.search(value) else value


def _boxes(text: str, place: int, earlier: list[int]) -> str | None:
    """What the box says, with what the boxes right before it say; None if it does not close."""
    inside, _ = _braced(text, place)
    parts = [inside] if inside else []
    for before in earlier:
        other, end = _braced(text, before)
        start = text.rfind("\\", 0, place)
        between = end <= start and _BETWEEN_BOXES.fullmatch(text[end:start])
        if not (parts and other and between):
            break
        parts, place = [*parts, other], before
    return ", ".join(reversed(list(dict.fromkeys(parts)))) or None


def _braced(text: str, place: int) -> tuple[str | None, int]:
    """What stands in the braces that open at `place`, and where it ends; without braces, a word."""
    if text[place] != "{":
        end = re.compile(r"[^$\n]*").match(text, place)
        return (end[0].strip(), end.end()) if end else (None, place)
    depth = 0
    for token in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, place):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return text[place + 1 : token.start()].strip(), token.end()
    return None, len(text)


def _line(text: str, place: int) -> Statement:
    display = _DISPLAY.match(text, place)
    line = display[1] if display else text[place:].split("\n", 1)[0]
    end = display.end() if display else place + len(line)
    said = line.strip().strip("*_` ").removesuffix(".").removesuffix("。").strip("*_` ")
    return Statement(said, not text[end:].strip(" \t\n*_`$"))


def final_text(text: str) -> str | None:
    """What an answer states, as text; None if it states nothing, or breaks off."""
    statement = next(statements(text), None)
    return statement.text if statement else None


def final_json(text: str) -> Any:
    """The JSON that an answer is, else its last fenced block that is JSON, else ValueError."""
    text = text.replace("\ufeff", "")
    for candidate in (text.strip(), *reversed(fenced_blocks(text))):
        try:
            return json.loads(candidate, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON")


def _no_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, JSON has neither."""
    raise ValueError(f"{name} is not JSON")


def fenced_blocks(text: str) -> list[str]:
    """The contents of Markdown's fenced code blocks, also where a fence stands on their line."""
    from markdown_it import MarkdownIt

    text = _GLUED_END.sub(r"\1\n\2", _GLUED_START.sub(r"\1\n", text))
    blocks = MarkdownIt("commonmark").disable(["inline", "html_block", "code"]).parse(text)
    return [block.content for block in blocks if block.type == "fence"]
