"""Of a long text, what asks is embedded and described, wherever it stands."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from aios_eccos.forecast.head.features import count_features, hash_words
from aios_eccos.history.embed.embedding import clean_text
from aios_eccos.history.embed.gist import LONG, gist, passage
from aios_eccos.history.open import open_embedder
from aios_eccos.lab.studies.padding import padding

EMBEDDER = open_embedder()
SENTENCES = [
    f"The {noun} {verb} the {place}."
    for noun in ("river", "town", "committee", "harbor master", "old library", "engineer")
    for verb in ("passes", "describes", "supports", "remembers", "restored", "measured")
    for place in ("mill", "wooden bridge", "market near the square", "northern valley", "archive")
]
QUESTIONS = [
    "What is 2 plus 2?",
    "Prove that every bounded monotone sequence of reals converges.",
    "Natalia sold clips to 48 of her friends in April. She sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?",
    "Write a function that reverses a linked list in place.",
    "For how many ordered pairs $(A,B)$ of positive integers is $AAA_7+BBB_7=666_7?$",
]


def prose(size: int, seed: int) -> str:
    draw = random.Random(seed)
    text = ""
    while len(text) < size:
        text += draw.choice(SENTENCES) + (" " if draw.random() < 0.8 else "\n\n")
    return text[:size]


def repeated(size: int, seed: int) -> str:
    return (random.Random(seed).choice(SENTENCES) + " ") * (size // 30 + 1)


def logs(size: int, seed: int) -> str:
    draw = random.Random(seed)
    lines = [
        f"2024-05-{draw.randint(10, 28)} 12:{draw.randint(10, 59)} INFO worker-{draw.randint(1, 9)}"
        f" handled request {draw.randrange(16**8):08x} in {draw.randint(1, 900)} ms"
        for _ in range(size // 60)
    ]
    return "\n".join(lines)


def listed(size: int, seed: int) -> str:
    draw = random.Random(seed)
    answers = [f"Q: Where is the {draw.choice(SENTENCES)[4:-1]}?\nA: {draw.choice(SENTENCES)}"
               for _ in range(size // 80)]  # fmt: skip
    return "\n\n".join(answers)


def padded(question: str, place: str, pad: str) -> str:
    half = len(pad) // 2
    sides = {"before": (pad, ""), "after": ("", pad), "around": (pad[:half], pad[half:])}
    before, after = sides[place]
    return "\n\n".join(part for part in (before, question, after) if part)


@pytest.mark.parametrize("size", [2_000, 8_000])
@pytest.mark.parametrize("place", ["before", "after", "around"])
@pytest.mark.parametrize("kind", [prose, repeated, logs, listed])
def test_a_question_is_told_from_others_behind_the_same_text(kind, place, size) -> None:
    bare = EMBEDDER.embed(QUESTIONS)
    texts = [padded(question, place, kind(size, 7)) for question in QUESTIONS]
    found, layers = EMBEDDER.embed_with_layers(texts)
    cosine = found @ bare.T
    assert (cosine.argmax(axis=1) == np.arange(len(QUESTIONS))).all(), "each is nearest to itself"
    assert np.diag(cosine).mean() > 0.8 and np.diag(cosine).min() > 0.55
    assert np.triu(found @ found.T, 1).max() < 0.9
    short = EMBEDDER.embed_with_layers(QUESTIONS)[1]
    far = np.linalg.norm(layers[:, None] - short[None], axis=2)
    assert (far.argmin(axis=1) == np.arange(len(QUESTIONS))).all(), "so do the head's layers"


def test_the_head_describes_what_asks() -> None:
    question = QUESTIONS[2]
    long = padded(question, "before", repeated(8_000, 1))
    assert gist(long) == question
    np.testing.assert_array_equal(count_features([long]), count_features([question]))
    assert hash_words(long)[0].tolist() == hash_words(question)[0].tolist()


@pytest.mark.parametrize("text", [*QUESTIONS, "", "a" * LONG, prose(LONG, 3)[:LONG], "字" * 300])
def test_a_text_that_is_not_long_is_read_whole(text: str) -> None:
    assert gist(text) == text
    assert clean_text(text) == text.strip()


def test_both_ends_of_a_text_that_is_a_little_too_long_are_read() -> None:
    """Two tokens a letter, so that 256 of them end long before `LONG` characters."""
    one, two, three = (
        first + " z" * 300 + last for first, last in (("a", "b"), ("c", "b"), ("a", "d"))
    )
    found = EMBEDDER.embed([one, two, three])
    assert (found[0] @ found[1:].T < 1 - 1e-6).all()


ODD = {
    "blanks": "\n" * 10_000,
    "no blanks": "x" * 1_000_000,
    "chinese": "字" * 100_000,
    "marks": "?" * 20_000,
    "points": ". " * 20_000,
    "brackets": "(" * 20_000,
    "half characters": "\ud83d " * 5_000,
    "nul": "a\0b " * 5_000,
    "invisible": "\u200b" * 5_000,
    "labels alone": "Task:\n" * 9_000,
    "tags": "<a>\n" * 20_000,
    "short paragraphs": "a\n\n" * 20_000,
    "mathematical letters": "𝕏" * 5_000,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_text_has_a_gist_and_an_embedding(name: str) -> None:
    assert len(gist(ODD[name])) <= LONG
    vector = EMBEDDER.embed([ODD[name]])[0]
    assert np.isfinite(vector).all() and abs(float(np.linalg.norm(vector)) - 1) < 1e-3


def test_a_text_of_marks_takes_no_longer_than_one_of_letters() -> None:
    def least(text: str) -> float:
        """Seconds of CPU, of the fastest of several runs."""
        seconds = []
        for _ in range(7):
            begun = time.thread_time()
            gist(text)
            seconds.append(time.thread_time() - begun)
        return min(seconds)

    assert least("-" * 100_000) < 4 * least("x" * 100_000), "all other threads wait meanwhile"


def test_where_nothing_asks_a_part_of_the_text_is_read() -> None:
    story = prose(8_000, 5)
    assert 0 < len(gist(story)) <= LONG and gist(story) in story


HIDDEN = "A polygon of nine sides, its diagonals all drawn, no three through one point"
PLAIN = "Weigh the apples of each basket and put the heaviest ones into the cellar"
CHINESE = "请计算一个边长为三厘米的正方形的面积，并说明你的理由"
CODE = "```python\ndef f(x):\n    return [x, x[::-1]]\nassert f('ab') == ??\n```"
MARKED = [
    ("Task:\n{}", HIDDEN),
    ("### Question\n\n{}\n\n### Context", HIDDEN),
    ("## Main Task\n{}\n\n## Available Workers\nnone", PLAIN),
    ("**Question:** {}\n", PLAIN),
    ("<question>\n{}\n</question>", HIDDEN),
    ("<task>{}</task>", PLAIN),
    ("<user_query>{}</user_query>", HIDDEN),
    ("Question: {}\nAnswer:", CHINESE),
    ("Instruction: {}\n\nResponse:", PLAIN),
]


@pytest.mark.parametrize("place", ["before", "after", "around"])
@pytest.mark.parametrize(("form", "hidden"), MARKED, ids=[form for form, _ in MARKED])
def test_what_is_marked_as_the_question_is_read_and_nothing_else(form, hidden, place) -> None:
    text = padded(form.format(hidden + "."), place, prose(6_000, 1))
    assert gist(text) == f"{hidden}."


def test_of_several_questions_that_follow_each_other_all_are_read() -> None:
    asked = "\n\n".join(QUESTIONS[1:3])
    found = gist(padded(asked, "before", logs(8_000, 2)))
    assert found == asked


def test_a_scratchpad_does_not_hide_its_question() -> None:
    text = f"Answer as best you can.\n\nQuestion: {QUESTIONS[2]}\n"
    for step in range(9):
        text += f"Thought: what do I know of step {step}?\nAction: search\nAction Input: clips\n"
        text += f"Observation: {prose(500, step)}\n"
    assert gist(f"{text}Thought:") == QUESTIONS[2]


def test_code_that_is_asked_about_is_read_with_its_question() -> None:
    asked = f"What does this function return? Complete the assertion.\n\n{CODE}"
    assert gist(padded(asked, "before", prose(6_000, 2))) == asked


CALL = (
    "Book me a table for four people at an Italian restaurant.\n\n"
    'Functions: [{"name": "table_book", "description": "Reserves a table at a restaurant.", '
    '"parameters": {"people": {"type": "integer", "description": "How many people come."}}}]'
)
TOLD = (
    "Ara has played for the school basketball team for four years, 40 games in each of them.\n\n"
    "On average she scores 21 points per game, but last year an injury took 12 games away.\n\n"
    "How many points has Ara scored for the team in the four years?"
)
CHOICES = "Which gas do plants take in?\n" + "\n".join(
    f"{letter}. {gas}"
    for letter, gas in zip("ABCD", ("Argon", "Neon", "CO2", "Ozone"), strict=True)
)


@pytest.mark.parametrize("size", [2_000, 6_000])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("asked", [CALL, TOLD, CHOICES], ids=["functions", "story", "choices"])
def test_a_question_of_several_parts_is_read_whole(asked: str, place: str, size: int) -> None:
    assert gist(padded(asked, place, padding("prose", size, 4))) == asked


@pytest.mark.parametrize("place", ["before", "after", "around"])
def test_it_is_said_where_what_is_read_stands(place: str) -> None:
    text = padded(QUESTIONS[1], place, logs(20_000, 3))
    found = passage(text)
    assert text[found.start : found.end] == QUESTIONS[1] and found.rule == "question"
    assert passage(QUESTIONS[1]) == (0, len(QUESTIONS[1]), "whole")


def test_what_is_read_is_read_whole() -> None:
    """A text that was read once, as a stored one, is not cut again."""
    for place in ("before", "after", "around"):
        found = gist(padded(QUESTIONS[2], place, repeated(9_000, 1)))
        assert gist(found) == found
