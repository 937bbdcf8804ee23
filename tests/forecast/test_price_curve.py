"""The floor's price: replayed history, corrected for the optimizer's own selection."""

import dataclasses
import threading

import numpy as np
import pytest
from predict_world import MODELS, make_table

from aios_eccos.decide.rule import choose
from aios_eccos.floor import curve as curves
from aios_eccos.floor.curve import MAX_ROWS, PriceBook, price_curve
from aios_eccos.floor.learn import past_of
from aios_eccos.floor.planned import book_of
from aios_eccos.forecast.pricing import price_table


def noisy(truth, sd=0.15, seed=3):
    rng = np.random.default_rng(seed)
    return np.clip(truth + rng.normal(0, sd, truth.shape), 0.01, 0.99)


def costs(table):
    return price_table(MODELS).cost(table.input_tokens, table.output_tokens)


def test_the_floor_holds_on_success_that_is_had_though_forecasts_are_noisy():
    history, truth = make_table(4000, seed=4)
    curve = price_curve(noisy(truth), history.correctness, costs(history))
    test, test_truth = make_table(4000, seed=5)
    forecast = noisy(test_truth, seed=6)
    for floor in (0.5, 0.55, 0.6, 0.68):
        pick = choose(costs(test), forecast, curve.price_for(floor))
        had = test_truth[np.arange(4000), pick].mean()
        promised = forecast[np.arange(4000), pick].mean()
        assert had == pytest.approx(floor, abs=0.02)
        assert promised > had + 0.02
        assert curve.internal_floor(floor) == pytest.approx(promised, abs=0.02)


def test_a_curve_rises_from_the_cheapest_to_the_strongest(world):
    table, truth = world
    curve = price_curve(truth, table.correctness, costs(table))
    for line in (curve.prices, curve.promised, curve.realised):
        assert np.all(np.diff(line) >= 0)
    assert curve.price_for(0.0) <= curve.prices[1]
    assert curve.price_for(1.0) == pytest.approx(curve.prices[-1])
    assert curve.cost_for(0.0) < curve.cost_for(0.7) < curve.cost_for(1.0)
    middle = curve.price_for(0.7)
    assert curve.floor_for(middle) == pytest.approx(0.7, abs=0.01)
    assert curve.verdicts == len(table)


def test_missing_verdicts_leave_the_gap_to_those_that_are_there(world):
    table, truth = world
    holes = np.random.default_rng(7).uniform(size=truth.shape) < 0.5
    sparse = np.where(holes, np.nan, table.correctness)
    full = price_curve(truth, table.correctness, costs(table))
    part = price_curve(truth, sparse, costs(table))
    assert np.abs(full.realised - part.realised).max() < 0.06
    none = price_curve(truth, np.full(truth.shape, np.nan), costs(table))
    assert none.realised == pytest.approx(none.promised) and none.verdicts == 0


def test_a_curve_without_records_is_refused():
    with pytest.raises(ValueError, match="allowed forecast"):
        price_curve(np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2)))


def test_free_models_and_equal_forecasts_make_flat_curves():
    success = np.tile([0.5, 0.8], (40, 1))
    curve = price_curve(success, (success > 0.6).astype(float), np.zeros((40, 2)))
    assert curve.cost_for(0.9) == 0.0
    flat = price_curve(success[:, :1], success[:, :1], np.ones((40, 1)))
    assert flat.internal_floor(0.5) == pytest.approx(0.5)


def test_long_histories_are_sampled():
    table, truth = make_table(MAX_ROWS + 500)
    assert price_curve(truth, table.correctness, costs(table)).verdicts == MAX_ROWS


def test_book_restricts_to_the_allowed_models(world):
    table, truth = world
    book = book_of(past_of(table, truth, table.output_tokens, price_table(MODELS)), ())[0]
    both = book.curve(["small", "middle"])
    assert both.reachable < book.curve().reachable
    assert book.curve() is book.curve(["large", "middle", "small"])
    assert book.strongest() == ("large", pytest.approx(table.correctness[:, 2].mean()))
    assert book.strongest(["small"])[0] == "small"
    assert book.strongest([]) is None
    assert book.strongest()[1] == pytest.approx(table.correctness[:, 2].mean())


def test_book_has_no_curve_without_verdicts(world):
    table, truth = world
    few = dataclasses.replace(table, correctness=np.full(truth.shape, np.nan))
    book = book_of(past_of(few, truth, table.output_tokens, price_table(MODELS)), ())[0]
    assert book.curve() is None and book.strongest() is None
    nobody = past_of(table, truth, table.output_tokens, price_table([]))
    assert book_of(nobody, ())[0].curve() is None


def test_who_asks_for_a_known_curve_does_not_wait_for_a_new_one(world, monkeypatch):
    table, truth = world
    names = [model.name for model in MODELS]
    book = PriceBook(names, noisy(truth), table.correctness, costs(table))
    known = book.curve()
    begun, go_on, found = threading.Event(), threading.Event(), []

    def slow(*args, **options):
        begun.set()
        assert go_on.wait(60)
        return price_curve(*args, **options)

    monkeypatch.setattr(curves, "price_curve", slow)
    asking = threading.Thread(target=lambda: found.append(book.curve(names[:2])))
    asking.start()
    assert begun.wait(60)
    assert book.curve() is known
    go_on.set()
    asking.join(60)
    assert found[0] is book.curve(names[:2]) is not known
