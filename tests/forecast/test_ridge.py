"""Forecasts from audits: near what is true, sure where records are, and prices that lose little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aios_eccos.floor.losses import LossBook
from aios_eccos.forecast.parts import calibrating
from aios_eccos.forecast.ridge import FEWEST, RIDGE, UNKNOWN_LOSS, RidgePredictor, losses_of
from aios_eccos.history.mirror import build_table
from aios_eccos.records import Outcome, Record
from aios_eccos.values import Model, Query
from aios_eccos.verdicts.relative import imputed

POOL = (
    Model("small", input_price=1e-7, output_price=1e-7),
    Model("never", input_price=1e-7, output_price=1e-7),
    Model("large", input_price=1e-5, output_price=1e-5, strength=0.9),
)
NAMES = tuple(model.name for model in POOL)


def audits(n=200, seed=0, worse=0.6):
    """Audits of `small`, which is worse with a chance that rises with the angle."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi / 2, n)
    chance = worse * (angle > np.pi / 4)
    records = []
    for i, p in enumerate(chance):
        draw = rng.uniform()
        verdict = -1 if draw < p else 1 if draw > 0.98 else 0
        outcomes = (Outcome(m, c, 100) for m, c in imputed({"small": verdict}, "large").items())
        records.append(Record(f"audit:{i}", "", 50, (*outcomes,), source="audit", created=float(i)))
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return build_table(records, vectors), angle


def at(angle):
    return np.array([[np.cos(angle), np.sin(angle)]], dtype=np.float32)


def test_a_model_is_worse_where_its_audits_say_so() -> None:
    found = RidgePredictor(audits()[0], POOL, error=0.0)
    easy = found.forecast([Query("")], at(0.1), POOL)
    hard = found.forecast([Query("")], at(1.4), POOL)
    assert found.reference == "large"
    assert easy.success[0, 2] == hard.success[0, 2] == 0.9
    assert easy.success[0, 0] == pytest.approx(0.9, abs=0.12)
    assert hard.success[0, 0] == pytest.approx(0.3, abs=0.15)


def test_what_was_hardly_audited_is_taken_to_be_poor() -> None:
    few = RidgePredictor(audits(FEWEST - 1)[0], POOL, error=0.0)
    said = few.forecast([Query("")], at(0.1), POOL)
    assert said.success[0].tolist() == pytest.approx([0.9 - UNKNOWN_LOSS] * 2 + [0.9])
    assert said.support[0, :2].tolist() == [0.0, 0.0]


def test_it_is_surer_near_its_records() -> None:
    table, angle = audits()
    found = RidgePredictor(table, POOL, error=0.0)
    near = found.forecast([Query("")], at(float(np.median(angle))), POOL)
    far = found.forecast([Query("")], -at(0.8), POOL)
    assert near.support[0, 0] > far.support[0, 0] > 0


def test_leave_one_out_is_what_a_fit_without_the_row_says() -> None:
    table, _ = audits(60)
    found = RidgePredictor(table, POOL, error=0.0)
    losses = found.losses[:, 0]
    kernel = np.exp(-3 * (1 - table.embeddings @ table.embeddings.T.astype(float)))
    mean = (losses.sum() + 0.8) / 62
    for row in (0, 17, 59):
        rest = np.arange(60) != row
        weights = np.linalg.solve(
            kernel[np.ix_(rest, rest)] + RIDGE * np.eye(59), losses[rest] - mean
        )
        expected = mean + kernel[row, rest] @ weights
        assert found.unseen[row, 0] == pytest.approx(expected, abs=1e-6)


def test_a_judges_errors_are_taken_out_of_the_losses() -> None:
    table, _ = audits()
    plain, noisy = (RidgePredictor(table, POOL, error=e).losses[:, 0] for e in (0.0, 0.1))
    np.testing.assert_allclose(noisy, plain / 0.85)


def test_audits_of_a_changed_model_are_forgotten() -> None:
    table, _ = audits()
    found = RidgePredictor(table, POOL, error=0.0, since={"small": 150.0})
    assert np.isnan(found.losses[:, 0]).sum() == 150


def test_verdicts_are_read_from_rows_in_which_the_reference_was_beaten() -> None:
    outcomes = (Outcome(m, c) for m, c in imputed({"small": -1, "never": 1}, "large").items())
    record = Record("audit:1", "", 5, (*outcomes,), source="audit")
    found = RidgePredictor(build_table([record], at(0.1)), POOL, error=0.0)
    assert found.losses[0].tolist() == [1.0, -1.0, 0.0]


def test_without_embeddings_priors_stand_in() -> None:
    said = RidgePredictor(audits()[0], POOL, error=0.0).forecast([Query("")], None, POOL)
    assert said.success[0, 2] == 0.9
    assert said.support.tolist() == [[0.0] * 3]


def book_of(table):
    found = RidgePredictor(table, POOL, error=0.0)
    return found, LossBook(found, table, POOL)


def test_prices_fall_with_the_loss_that_is_allowed_and_the_careful_one_is_higher() -> None:
    _, book = book_of(audits()[0])
    names = [model.name for model in POOL]
    prices = [book.price(names, allowed, careful=False) for allowed in (0.02, 0.05, 0.15)]
    assert prices == sorted(prices, reverse=True)
    assert prices[0] > prices[-1]
    assert book.price(names, 0.05, careful=True) >= prices[1]


def test_there_is_no_price_before_enough_calls_were_audited_or_without_the_reference() -> None:
    names = [model.name for model in POOL]
    assert book_of(audits(39)[0])[1].price(names, 0.05, careful=False) is None
    assert book_of(audits()[0])[1].price(["small", "never"], 0.05, careful=False) is None


def test_the_careful_see_one_sd_less_and_nobody_better_than_the_reference() -> None:
    found, book = book_of(audits()[0])
    said = found.forecast([Query("")], at(0.1), POOL)
    raised = replace(said, success=np.array([[1.0, 0.2, 0.9]]))
    low = book.careful(NAMES, raised.success, raised.support)
    assert low[0, 2] == 0.9
    sd = found.spread[0] / np.sqrt(said.support[0, 0])
    assert low[0, 0] == pytest.approx(0.9 - sd)
    assert book.careful(NAMES, np.zeros((1, 3)), said.support).tolist() == [[0.0] * 3]


def test_a_pool_that_has_changed_since_is_forecast_all_the_same() -> None:
    found, book = book_of(audits()[0])
    small, _, large = POOL
    usual = found.forecast([Query("")], at(0.1), POOL)
    sure = book.careful(NAMES, usual.success, usual.support)[0]
    new = Model("new", input_price=1e-7, output_price=1e-7)
    for pool in ([*POOL, new], [small, large], [new, large, small], [large]):
        names = [model.name for model in pool]
        said = found.forecast([Query("")], at(0.1), pool)
        low = book.careful(names, said.success, said.support)
        assert list(said.models) == names
        known = [name for name in names if name != "new"]
        rows = [names.index(name) for name in known], [NAMES.index(name) for name in known]
        assert said.success[0, rows[0]].tolist() == usual.success[0, rows[1]].tolist()
        assert low[0, rows[0]].tolist() == sure[rows[1]].tolist()
        if "new" in names:
            assert said.success[0, names.index("new")] == pytest.approx(0.9 - UNKNOWN_LOSS)
            assert said.support[0, names.index("new")] == 0.0


def test_audits_against_another_reference_tell_nothing_of_this_one() -> None:
    table, _ = audits(60)
    former = replace(table, tasks=("former",) * 30 + ("large",) * 30)
    found = losses_of(former, "large", ("small",), error=0.0, since={})
    assert np.isnan(found[:30]).all()
    assert not np.isnan(found[30:]).any()
    # Audits that do not say so count.
    assert not np.isnan(losses_of(table, "large", ("small",), error=0.0, since={})).any()


def test_no_certificate_rests_on_an_audit() -> None:
    outcomes = (Outcome("small", 1.0), Outcome("large", 1.0))
    rows = [
        Record(f"{source} {n}", f"text {n} {source}", 5, outcomes, source=source)
        for source in ("audit", "ingest")
        for n in range(60)
    ]
    table = build_table(rows, np.ones((len(rows), 2), dtype=np.float32))
    found = calibrating(table)
    assert not found[:60].any()
    assert found[60:].any()
