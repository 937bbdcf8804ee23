"""A head for certificates, and what a re-fit leaves on disk."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from predict_world import make_layers, make_table

from aios_eccos.forecast.head import refit as module
from aios_eccos.forecast.head.artifact import load_apart, read_about
from aios_eccos.forecast.head.refit import Asked, BackgroundRefit, refit, write_table
from aios_eccos.history import open as opening


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


def test_what_a_killed_kernel_left_is_deleted_at_the_next_start(tmp_path) -> None:
    left = tmp_path / "refit-old"
    left.mkdir()
    write_table(left, make_table(5)[0])
    (tmp_path / "refit-file").write_text("no folder")
    BackgroundRefit(tmp_path / "head.safetensors")
    assert not left.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no embedded history there")
def test_a_refit_under_way_is_left_alone_also_where_its_kernel_was_killed(
    tmp_path, monkeypatch
) -> None:
    popen = module.subprocess.Popen
    sleeps = [sys.executable, "-c", "import sys; sys.stdin.read()"]

    def orphan(command, **more):
        return popen(sleeps, **more | {"stdin": module.subprocess.PIPE})

    monkeypatch.setattr(module.subprocess, "Popen", orphan)
    path = tmp_path / "head.safetensors"
    one = BackgroundRefit(path)
    one.start(make_table(5)[0])
    process, folder = one._process, one._folder
    BackgroundRefit(path)
    assert folder.exists()
    module.os.close(one._lock)  # as when the kernel is killed: its child alone holds it
    BackgroundRefit(path)
    assert folder.exists()
    process.communicate(timeout=20)
    BackgroundRefit(path)
    assert not folder.exists()


def test_texts_are_on_disk_only_until_they_are_read(tmp_path, monkeypatch) -> None:
    table, _ = make_table(120, seed=8)
    write_table(tmp_path, table)
    (tmp_path / "asked.json").write_text(json.dumps(dataclasses.asdict(Asked())))

    def embed(texts):
        assert texts == table.texts and not [*tmp_path.glob("table.*")]
        return table.embeddings, make_layers(table)

    def open_embedder(setting, cache):
        assert cache is None, "the cache is for data sets: nothing is ever forgotten there"
        return SimpleNamespace(name="stub", embed_with_layers=embed)

    monkeypatch.setattr(opening, "open_embedder", open_embedder)
    monkeypatch.setattr(module.os, "nice", lambda by: by)
    module.main([str(tmp_path), str(tmp_path / "head.safetensors")])
    assert json.loads((tmp_path / "result.json").read_text())["taken"]
