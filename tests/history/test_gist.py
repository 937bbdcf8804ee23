"""Of a long text, what asks is embedded and described, wherever it stands."""

from __future__ import annotations

import random

import numpy as np
import pytest

from aios_eccos.forecast.head.features import count_features, hash_words
from aios_eccos.history.embed.embedding import clean_text
from aios_eccos.history.embed.gist import GIST, LONG, gist
from aios_eccos.history.open import open_embedder

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
    "mathematical letters": "𝕏" * 5_000,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_text_has_a_gist_and_an_embedding(name: str) -> None:
    assert len(gist(ODD[name])) <= GIST + 1
    vector = EMBEDDER.embed([ODD[name]])[0]
    assert np.isfinite(vector).all() and abs(float(np.linalg.norm(vector)) - 1) < 1e-3


def test_where_nothing_asks_both_ends_are_read() -> None:
    story = prose(8_000, 5)
    found = gist(story)
    assert found.startswith(story[:400]) and found.endswith(story[-400:].rstrip())


def test_a_label_on_a_line_of_its_own_marks_what_follows() -> None:
    hidden = "A polygon of nine sides, its diagonals all drawn, no three through one point"
    text = f"{prose(3_000, 1)}\n\nTask:\n{hidden}.\n\n{prose(3_000, 2)}"
    assert gist(text) == f"Task:\n{hidden}."
