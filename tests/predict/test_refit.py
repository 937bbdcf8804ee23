"""A head for certificates, and what a re-fit leaves on disk."""

from __future__ import annotations

import dataclasses

import numpy as np
from predict_world import make_layers, make_table

from aios_eccos.predict import refit as module
from aios_eccos.predict.artifact import load_apart, read_about
from aios_eccos.predict.refit import Asked, refit


def test_a_head_that_certificates_cannot_use_is_no_rival(tmp_path, monkeypatch):
    """It saw the very records, so it may well look better."""
    table, _ = make_table(300, seed=5)
    path, layers = tmp_path / "head.safetensors", make_layers(table)
    assert refit(table, layers, path, embedder="mini").taken
    scores = iter([0.3, 0.1, 0.3, 0.1])
    monkeypatch.setattr(module, "brier_on", lambda *_: next(scores))
    asked = Asked(calibrate=True)
    result = refit(table, layers, path, embedder="mini", asked=asked)
    assert result.taken and load_apart(path) is not None
    scores = iter([0.3, 0.1])
    assert not refit(table, layers, path, embedder="mini", asked=asked).taken, "now they compete"


def test_a_head_is_not_made_again_and_again_where_nothing_calibrates(tmp_path):
    table, _ = make_table(200, seed=5)
    correctness = table.correctness.copy()
    correctness[:, 1:] = np.nan
    table = dataclasses.replace(table, correctness=correctness)
    path = tmp_path / "head.safetensors"
    asked = Asked(calibrate=True)
    assert refit(table, make_layers(table), path, embedder="mini", asked=asked).taken
    about = read_about(path)
    assert about["apart"] == [] and not module.is_unfit(about, asked)
