"""A head for certificates, and what a re-fit leaves on disk."""

from __future__ import annotations

import dataclasses
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from predict_world import Layered, make_layers, make_table

from aios_eccos.forecast.head import refit as module
from aios_eccos.forecast.head.artifact import load_apart, read_about
from aios_eccos.forecast.head.refit import (
    Asked,
    BackgroundRefit,
    carry_out,
    refit,
    write_task,
)
from aios_eccos.history import open as opening


def test_a_head_that_certificates_cannot_use_is_no_rival(tmp_path, monkeypatch):
    """It saw the very records, so it may well look better."""
    table, _ = make_table(300, seed=5)
    path, embedder = tmp_path / "head.safetensors", Layered(table)
    assert refit(table, path, embedder, Asked()).taken
    scores = iter([0.3, 0.1, 0.3, 0.1])
    monkeypatch.setattr(module, "brier_on", lambda *_: next(scores))
    asked = Asked(calibrate=True)
    result = refit(table, path, embedder, asked)
    assert result.taken and load_apart(path) is not None
    scores = iter([0.3, 0.1])
    assert not refit(table, path, embedder, asked).taken, "now they compete"


def test_a_head_is_not_made_again_and_again_where_nothing_calibrates(tmp_path):
    table, _ = make_table(200, seed=5)
    correctness = table.correctness.copy()
    correctness[:, 1:] = np.nan
    table = dataclasses.replace(table, correctness=correctness)
    path = tmp_path / "head.safetensors"
    asked = Asked(calibrate=True)
    assert refit(table, path, Layered(table), asked).taken
    about = read_about(path)
    assert about["apart"] == [] and not module.is_unfit(about, asked)


@pytest.mark.skipif(sys.platform == "win32", reason="no embedded history there")
def test_a_killed_kernel_leaves_no_texts_and_no_files(tmp_path, monkeypatch) -> None:
    """The table is in no folder while the process reads it, and so not after it either."""
    popen = module.subprocess.Popen
    seen = tmp_path / "seen"
    reads = f"import pathlib, sys; pathlib.Path({str(seen)!r}).write_bytes(sys.stdin.buffer.read())"

    def reading(command, **more):
        return popen([sys.executable, "-c", reads], **more)

    monkeypatch.setattr(module.subprocess, "Popen", reading)
    (tmp_path / "state").mkdir()
    background = BackgroundRefit(tmp_path / "state" / "head.safetensors")
    assert background.start(make_table(5)[0])
    assert not [*(tmp_path / "state").iterdir()]
    result = wait_for(background)
    assert "question 3" in seen.read_bytes().decode("latin-1")
    assert result.error == "its process ended with 0" and not [*(tmp_path / "state").iterdir()]


def wait_for(background):
    background._running[0].wait(60)
    return background.poll()


def test_vectors_of_live_texts_are_not_kept(tmp_path, monkeypatch) -> None:
    table, _ = make_table(120, seed=8)

    def embed(texts):
        assert texts == table.texts
        return table.embeddings, make_layers(table)

    def open_embedder(setting, cache):
        assert cache is None, "the cache is for data sets: nothing is ever forgotten there"
        return SimpleNamespace(name="stub", embed_with_layers=embed)

    monkeypatch.setattr(opening, "open_embedder", open_embedder)
    task = io.BytesIO()
    write_task(task, table, Asked())
    assert carry_out(task, tmp_path / "head.safetensors").taken
