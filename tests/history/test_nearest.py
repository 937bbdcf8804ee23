"""The search in memory finds what Chroma's index finds, whatever was put, replaced and dropped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_world import MODELS, ToyEmbedder, some_records, vectors

from aios_eccos.history import chroma
from aios_eccos.history.nearest import Nearest
from aios_eccos.history.open import open_history


def test_nearest_are_those_of_all_cosines_after_puts_and_drops() -> None:
    held, known, queries = Nearest(), vectors(50), vectors(4, seed=1)
    for start in range(0, 50, 7):
        held.put([f"r{i}" for i in range(start, min(start + 7, 50))], known[start : start + 7])
    held.drop(["r3", "r49", "unknown"])
    known[10] = vectors(1, seed=5)[0]
    held.put(["r10"], known[10:11])
    left = [i for i in range(50) if i not in (3, 49)]
    assert len(held) == len(left)
    for query, row in zip(queries, held.find(queries, 9), strict=True):
        cosine = known[left] @ query
        best = np.argsort(-cosine, kind="stable")[:9]
        assert [name for name, _ in row] == [f"r{left[i]}" for i in best]
        np.testing.assert_allclose([each for _, each in row], cosine[best], atol=1e-6)


def test_of_equally_near_ones_the_earlier_comes_first_and_no_more_than_asked_for() -> None:
    held, same = Nearest(), np.repeat(vectors(1), 6, axis=0)
    held.put(list("abcdef"), same)
    held.drop(["b"])
    assert [name for name, _ in held.find(same[:1], 3)[0]] == ["a", "c", "d"]
    assert len(held.find(same[:2], 99)[1]) == 5
    assert Nearest().find(same[:2], 3) == [[], []]


def test_who_searches_does_not_wait_for_a_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    held, known = Nearest(), vectors(20)
    held.put([f"r{i}" for i in range(20)], known)
    begun, go_on, delete = threading.Event(), threading.Event(), np.delete

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return delete(*args, **options)

    monkeypatch.setattr(np, "delete", slow)
    removal = threading.Thread(target=held.drop, args=(["r3"],))
    removal.start()
    assert begun.wait(60)
    assert held.find(known[3:4], 1)[0][0][0] == "r3"
    go_on.set()
    removal.join(60)
    assert held.find(known[3:4], 1)[0][0][0] != "r3"
    assert held.find(known[19:], 1)[0][0][0] == "r19"


def test_a_history_that_outgrows_memory_is_searched_by_chroma(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma, "EXACT_MOST", 30)
    history = open_history("embedded", tmp_path, ToyEmbedder())
    found = []
    for start in (0, 20):  # 20 records, then 40
        history.add(some_records(40)[start : start + 20], vectors(40)[start : start + 20])
        found.append(history.nearest(vectors(3, seed=1), MODELS, 5))
    history.close()
    monkeypatch.setattr(chroma, "EXACT_MOST", 1000)
    history = open_history("embedded", tmp_path, ToyEmbedder())
    exact = history.nearest(vectors(3, seed=1), MODELS, 5)
    history.close()
    assert exact.ids == found[1].ids != found[0].ids
    np.testing.assert_allclose(exact.similarity, found[1].similarity, atol=1e-5)
