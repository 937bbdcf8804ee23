"""Certificates: what they promise must hold, also with bad forecasts."""

import dataclasses
import json

import numpy as np
import pytest
from predict_world import MODELS, make_table

from aios_eccos.decide.rule import choose
from aios_eccos.errors import DataError
from aios_eccos.floor.certify import (
    Certificate,
    Refusal,
    certify,
    papers_json,
    price_grid,
    read_papers,
    success_bound,
)
from aios_eccos.floor.curve import price_curve
from aios_eccos.forecast.pricing import price_table


def world_of(n, seed):
    table, truth = make_table(n, seed=seed)
    return table, truth, price_table(MODELS).cost(table.input_tokens, table.output_tokens)


def grid_of_fitted_rows():
    table, truth, cost = world_of(2000, 99)
    return price_grid(price_curve(truth, table.correctness, cost))


GRID = grid_of_fitted_rows()


def test_certified_floors_hold_as_often_as_they_say():
    kept = 0
    for draw in range(40):
        table, truth, cost = world_of(300, 100 + draw)
        paper = certify(truth, table.correctness, cost, 0.6, grid=GRID, data="x")
        _, fresh_truth, fresh_cost = world_of(3000, 500 + draw)
        pick = choose(fresh_cost, fresh_truth, paper.price)
        kept += fresh_truth[np.arange(3000), pick].mean() >= 0.6
    assert kept >= 34


def test_a_floor_out_of_reach_is_refused_with_one_that_is_not():
    table, truth, cost = world_of(300, 3)
    answer = certify(truth, table.correctness, cost, 0.99, grid=GRID, data="x")
    assert isinstance(answer, Refusal)
    assert isinstance(
        certify(truth, table.correctness, cost, answer.reachable - 1e-9, grid=GRID, data="x"),
        Certificate,
    )


def test_missing_verdicts_and_half_right_answers_never_help():
    table, truth, cost = world_of(300, 4)
    worse = np.where(np.random.default_rng(0).uniform(size=truth.shape) < 0.1, np.nan, 0.5)
    worse = np.where(np.isnan(worse) | (table.correctness == 0), worse, table.correctness)
    low = certify(truth, worse, cost, 0.99, grid=GRID, data="x")
    assert (
        low.reachable
        <= certify(truth, table.correctness, cost, 0.99, grid=GRID, data="x").reachable
    )


def test_certificates_are_recomputed_by_anyone():
    table, truth, cost = world_of(400, 5)
    paper = certify(truth, table.correctness, cost, 0.6, grid=GRID, data="abc")
    assert read_papers(papers_json({"a": paper})) == {"a": paper}
    for change in ({"floor": 0.9}, {"price": 1.0}, {"successes": (401,)}, {"successes": ()}):
        with pytest.raises(DataError, match="does not follow"):
            read_papers(papers_json({"a": dataclasses.replace(paper, **change)}))
    for raw in ("{", "[]", '{"floor": 1}', "[" * 100_000):
        with pytest.raises(DataError, match="not a file of certificates"):
            read_papers(raw)


@pytest.mark.parametrize(
    "change",
    [
        *({"delta": value} for value in (float("nan"), 0, 1, 2.0, "0.1", None, True)),
        *({"floor": value} for value in (float("nan"), -0.1, 1.1, "0.6", None)),
        *({"n": value} for value in (400.0, -1, "400", True)),
        {"n": float("nan"), "successes": [400]},
        {"successes": [399.5]},
        {"successes": [True]},
        {"successes": [float("nan")]},
        {"successes": [400, -1]},
        {"successes": [10**400]},
        {"n": 10**400, "successes": [400]},
        {"grid": [float("inf")], "price": float("inf"), "successes": [400]},
        {"grid": [float("nan")], "price": float("nan"), "successes": [400]},
        {"grid": ["1"], "price": "1", "successes": [400]},
    ],
)
def test_no_certificate_is_made_of_impossible_numbers(change):
    paper = Certificate(0.6, 1.0, 400, 0.1, (1.0,), (400,), "abc")
    raw = papers_json({"a": paper})
    assert read_papers(raw) == {"a": paper}
    body = json.loads(raw)
    body["floors"]["a"] |= change
    with pytest.raises(DataError):
        read_papers(json.dumps(body))


def test_a_floor_that_is_no_number_is_not_certified():
    table, truth, cost = world_of(100, 5)
    paper = certify(truth, table.correctness, cost, float("nan"), grid=GRID, data="x")
    assert not isinstance(paper, Certificate)


def test_bound_and_grid_at_their_edges():
    assert success_bound(0, 10, 0.1) == 0.0
    assert success_bound(10, 10, 0.1) == pytest.approx(0.1 ** (1 / 10))
    flat = price_curve(np.full((4, 2), 0.5), np.full((4, 2), 0.5), np.zeros((4, 2)))
    assert price_grid(flat) == (float(flat.prices[-1]),)
    assert len(GRID) > 5 and np.all(np.diff(GRID) < 0)
