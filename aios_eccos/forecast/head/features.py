"""What a text shows of its own difficulty, besides its meaning: counts and words.

Without any fitted state, so that a text has the same features on every machine: words are hashed
with CRC-32, never looked up in a vocabulary. Of a long text only its gist counts, as for embedders.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.history.embed.gist import gist

#: Raised whenever a feature changes; artefacts of another version are refused.
VERSION = 1
#: Buckets that words and pairs of words are hashed into.
WORD_BUCKETS = 1 << 16

_WORD = re.compile(r"[A-Za-z]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: Signs counted one by one.
_SIGNS = ("?", "$", "\\", "{", "(", "[", "'", '"', ",", "=", "+", "*", "-", "/", "^", "%", ":")
#: Words and notations counted one by one: maths, code, quantities, exam questions.
_PHRASES = (
    "\\frac", "\\sqrt", "\\sum", "\\int", "\\log", "\\sin", "\\cos", "\\tan", "\\angle",
    "\\triangle", "\\begin", "\\cdot", "\\pi", "\\le", "\\ge", "\\overline", "\\text", "\\dots",
    "\\binom", "[asy]", "how many", "how much", "what is", "find", "compute", "prove", "which",
    "who", "why", "when", "not ", "except", "probab", "integer", "polynomial", "prime",
    "remainder", "function", "triangle", "circle", "percent", "each", "twice", "half", "total",
    "more than", "less than", "per ", "average", "ratio", "law", "court", "equation", "define",
    "return", "for ", "while", "if ", "range(", "len(", "sort", "split", "join", "replace",
    "append", "lower", "upper", "dict", "[::-1]", "find(", "strip", "isalpha", "lambda", "def ",
    "assert", "==", "true", "false", "none",
)  # fmt: skip


def count_features(texts: Sequence[str]) -> NDArray[np.float32]:
    """(n, c) counts and shares of a text, mostly as log(1 + count)."""
    rows = [_counts(gist(text)) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), len(_counts("")))


def _counts(text: str) -> list[float]:
    words = _WORD.findall(text)
    numbers = _NUMBER.findall(text)
    plain = [number.replace(",", "") for number in numbers if number.count(".") < 2]
    values = [float(number[:15]) for number in plain]
    lines = text.split("\n")
    low = text.lower()
    length, count = len(text) + 1, len(words) + 1
    lengths = [len(word) for word in words] or [0]
    logs = [
        len(text), len(words), len(numbers), len(set(numbers)), max(values, default=0.0),
        len(lines), len(lines[-1]), max(lengths), sum(value >= 100 for value in values),
        len(re.findall(r"[.!?](?:\s|$)", text)), len(re.findall(r"(?m)^[A-J][.)] ", text)),
        len(re.findall(r"\d+\.\d+", text)), len(re.findall(r"\d/\d", text)),
        max(len(line) - len(line.lstrip()) for line in lines),
        len(text.encode(errors="replace")) - len(text),
    ]  # fmt: skip
    shares = [
        sum(lengths) / count,
        len({word.lower() for word in words}) / count,
        sum(size >= 8 for size in lengths) / count,
        sum(c.isupper() for c in text) / length,
        sum(c.isdigit() for c in text) / length,
        sum(not c.isalnum() and not c.isspace() for c in text) / length,
        sum(math.log1p(value) for value in values) / max(len(values), 1),
        float(any(value != int(value) for value in values)),
    ]
    named = [text.count(sign) for sign in _SIGNS] + [low.count(phrase) for phrase in _PHRASES]
    return [math.log1p(value) for value in logs + named] + shares


def hash_words(text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Buckets of a text's words and pairs of words, and 1 + log(count) of each."""
    tokens = _TOKEN.findall(gist(text).lower())
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(tokens)]
    counts = Counter(zlib.crc32(t.encode(errors="replace")) % WORD_BUCKETS for t in tokens + pairs)
    buckets = np.fromiter(counts.keys(), dtype=np.int64, count=len(counts))
    times = np.fromiter(counts.values(), dtype=np.float32, count=len(counts))
    return buckets, np.float32(1.0) + np.log(times)


def document_rarity(texts: Sequence[str]) -> NDArray[np.float32]:
    """(WORD_BUCKETS,) smoothed inverse document frequency of each bucket over the texts."""
    seen = np.zeros(WORD_BUCKETS)
    for text in texts:
        seen[hash_words(text)[0]] += 1
    return np.asarray(np.log((1 + len(texts)) / (1 + seen)) + 1, dtype=np.float32)


def word_vector(
    text: str, rarity: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The text's buckets and their tf-idf weights, of unit length."""
    buckets, times = hash_words(text)
    weights = times * rarity[buckets]
    norm = float(np.sqrt((weights**2).sum()))
    return buckets, (weights / norm if norm else weights).astype(np.float32)


def word_matrix(texts: Sequence[str], rarity: NDArray[np.float32]) -> Any:
    """(n, WORD_BUCKETS) sparse tf-idf rows of unit length (scipy csr_matrix)."""
    from scipy.sparse import csr_matrix

    vectors = [word_vector(text, rarity) for text in texts]
    ends = np.cumsum([0, *(len(buckets) for buckets, _ in vectors)])
    if not vectors:
        return csr_matrix((0, WORD_BUCKETS), dtype=np.float32)
    columns = np.concatenate([buckets for buckets, _ in vectors])
    data = np.concatenate([weights for _, weights in vectors])
    return csr_matrix((data, columns, ends), shape=(len(texts), WORD_BUCKETS))
