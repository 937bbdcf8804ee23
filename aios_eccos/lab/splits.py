"""The splits that every comparison is made on; nobody chooses a seed for its result."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

#: Shares of test and validation rows; the rest trains.
TEST_SHARE, VAL_SHARE = 0.3, 0.1


def split_labels(
    ids: Sequence[str],
    tasks: Sequence[str],
    texts: Sequence[str],
    own: Sequence[str],
    *,
    number: int = 0,
    seed: int = 0,
) -> tuple[str, ...]:
    """The label (train, val or test) of each row in split `number`.

    Number 0 is the file's own (a row without a label trains). Number r >= 1 sorts the ids of each
    task by sha256("seed:r:id"): the first 30 % test, the next 10 % validate. Rows of equal text
    follow the first of them in that order (in the file's order for number 0), so that no text
    stands on both sides.

    Raises:
        ValueError: `number` is negative, or the sequences differ in length.
    """
    if number < 0:
        raise ValueError(f"split number is {number}, wanted 0 (the file's own) or higher")
    if not len(ids) == len(tasks) == len(texts) == len(own):
        raise ValueError("ids, tasks, texts and own labels differ in length")
    if number == 0:
        order = list(range(len(ids)))
        labels = [label or "train" for label in own]
    else:
        order, labels = _shuffled(ids, tasks, f"{seed}:{number}")
    first: dict[str, str] = {}
    for row in order:
        first.setdefault(texts[row], labels[row])
    return tuple(first[text] if text else label for text, label in zip(texts, labels, strict=True))


def _shuffled(ids: Sequence[str], tasks: Sequence[str], salt: str) -> tuple[list[int], list[str]]:
    """Rows in hash order, task after task, and their labels by row."""
    digest = [hashlib.sha256(f"{salt}:{name}".encode()).hexdigest() for name in ids]
    groups: dict[str, list[int]] = defaultdict(list)
    for row, task in enumerate(tasks):
        groups[task].append(row)
    labels = ["train"] * len(ids)
    for rows in groups.values():
        rows.sort(key=digest.__getitem__)
        test, val = round(TEST_SHARE * len(rows)), round(VAL_SHARE * len(rows))
        for row in rows[:test]:
            labels[row] = "test"
        for row in rows[test : test + val]:
            labels[row] = "val"
    return sorted(range(len(ids)), key=digest.__getitem__), labels
