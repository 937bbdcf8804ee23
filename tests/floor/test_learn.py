"""What is learnt of a history of which nobody has judged most."""

from __future__ import annotations

import numpy as np
import pytest

from aios_eccos.config import Settings
from aios_eccos.floor import learn
from aios_eccos.floor.certify import Refusal
from aios_eccos.floor.learn import learn_from
from aios_eccos.forecast.parts import calibration
from aios_eccos.forecast.pricing import price_table
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.records import Outcome, Record, question_key
from aios_eccos.values import Model

POOL = (
    Model("small", input_price=1e-7, output_price=1e-7),
    Model("large", input_price=1e-5, output_price=1e-5),
)
PRICES = price_table(POOL)
SETTINGS = Settings(predictor="retrieval")
CERTIFIED = Settings(predictor="retrieval", floor_mode="certified")


def angles(n, seed):
    turn = np.random.default_rng(seed).uniform(0, np.pi / 2, n)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)


def judged_history(*, tokens=20):
    history = MemoryHistory()
    rows = [
        Record(
            f"j{i}",
            f"text {i}",
            50,
            (Outcome("small", float(i % 3 > 0), tokens), Outcome("large", 1.0, 20)),
            created=1.0,
        )
        for i in range(200)
    ]
    history.add(rows, angles(200, 0))
    return history


def add_live(history, n, tokens=20):
    """Newer calls that nobody has judged."""
    rows = [
        Record(f"l{i}", "", 50, (Outcome("small", None, tokens),), source="live", created=9e8)
        for i in range(n)
    ]
    history.add(rows, angles(n, 1))


@pytest.mark.parametrize("limit", [250, 8000])
def test_calls_without_a_verdict_do_not_move_the_price(monkeypatch, limit) -> None:
    monkeypatch.setattr(learn, "BOOK_ROWS", limit)
    history = judged_history()
    before = learn_from(history, None, SETTINGS, POOL).book.curve()
    add_live(history, 1000)
    after = learn_from(history, None, SETTINGS, POOL).book.curve()
    assert after.verdicts == before.verdicts == 200
    for name in ("prices", "promised", "realised", "cost"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name))


def test_their_lengths_stand_in_where_judged_rows_have_none() -> None:
    history = judged_history(tokens=None)
    add_live(history, 1000, tokens=300)
    learned = learn_from(history, None, SETTINGS, POOL)
    assert np.isfinite(learned.book.curve().cost).all()
    assert learned.predictor.means.output_tokens.tolist() == [20.0, 300.0]


def test_without_verdicts_there_is_no_price() -> None:
    history = MemoryHistory()
    add_live(history, 100)
    assert learn_from(history, None, SETTINGS, POOL).book is None


@pytest.mark.parametrize("keep", [[], range(0), np.zeros(200, dtype=bool)])
def test_a_table_of_no_rows_is_a_table(keep) -> None:
    table = judged_history().table()
    none = table.rows(keep)
    assert len(none) == 0 and none.correctness.shape == (0, 2) and none.models == table.models


def test_where_nothing_calibrates_floors_are_refused_and_calls_are_learnt_from() -> None:
    """Live calls have one verdict each."""
    history = MemoryHistory()
    rows = [
        Record(f"v{i}", "", 50, (Outcome(("small", "large")[i % 2], 1.0, 20),), source="live")
        for i in range(200)
    ]
    history.add(rows, angles(200, 2))
    known = learn_from(history, None, CERTIFIED, POOL)
    assert known.book is not None and known.judged == {"small": 100, "large": 100}
    refused = known.certifier.at(0.5)
    assert isinstance(refused, Refusal) and refused.n == 0 and refused.reachable == 0.0


def test_live_verdicts_neither_push_calibration_records_out_nor_are_withheld(monkeypatch) -> None:
    monkeypatch.setattr(learn, "BOOK_ROWS", 100)
    history = judged_history()
    n = learn_from(history, None, CERTIFIED, POOL).certifier.at(0.5).n
    assert n == int(calibration(history.table().keys).sum()) > 30
    rows = [
        Record(f"v{i}", "", 50, (Outcome("large", 1.0, 20),), source="live", created=9e8)
        for i in range(400)
    ]
    history.add(rows, angles(400, 2))
    known = learn_from(history, None, CERTIFIED, POOL)
    assert known.certifier.at(0.5).n == n
    assert known.judged["large"] == 100
    ids = [row.id for row in rows if calibration([question_key(row.text, row.id)])[0]]
    spot = history.recall(ids[:1])[ids[0]][1][None]
    found = known.predictor._nearest(spot, ["small", "large"])
    assert found.ids[0][0] == ids[0] and found.similarity[0, 0] > 0.999


def test_a_verdict_on_a_model_out_of_use_compares_nothing() -> None:
    history = judged_history()
    known = learn_from(history, None, CERTIFIED, POOL)
    other = [Record(f"j{i}", "", 0, (Outcome("gone", 1.0, 9),)) for i in range(200)]
    history.add(other)
    again = learn_from(history, None, CERTIFIED, POOL)
    assert again.certifier.at(0.5).n == known.certifier.at(0.5).n
    alone = learn_from(history, None, CERTIFIED, POOL[:1])
    assert alone.certifier.at(0.5).n == 0 and alone.judged["small"] == 200


def test_the_newest_calibrate(monkeypatch) -> None:
    monkeypatch.setattr(learn, "MOST", 20)
    known = learn_from(judged_history(), None, CERTIFIED, POOL)
    assert known.certifier.at(0.5).n == 20
