"""Re-fits while serving: when they are due, and one in a process of its own."""

from __future__ import annotations

import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest
from predict_world import STRENGTHS, make_layers, make_table
from waiting import until

from aios_eccos.config import parse_settings
from aios_eccos.floor.learn import head_path
from aios_eccos.forecast.head import upkeep as module
from aios_eccos.forecast.head.artifact import data_hash, load_head, read_about, save_head
from aios_eccos.forecast.head.refit import Asked, RefitResult, judged_rows
from aios_eccos.forecast.head.train import train
from aios_eccos.forecast.head.upkeep import HeadUpkeep
from aios_eccos.forecast.parts import parts_of
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.history.open import open_embedder
from aios_eccos.locate import Config, Location
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Model

POOL = (
    Model("small", input_price=1e-7, output_price=1e-7),
    Model("large", input_price=1e-5, output_price=1e-5),
)


class Background:
    """Stands for the process."""

    def __init__(self) -> None:
        self.tables, self.result, self.running = [], None, False

    def start(self, table, asked):
        self.tables.append(table)

    def poll(self):
        result, self.result = self.result, None
        return result


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """A head fitted on 100 records, which upkeep looks at whenever it is tended."""
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    monkeypatch.setattr(module, "SHARE", float("inf"))
    table, _ = make_table(100, seed=3)
    path = tmp_path / "head.safetensors"
    save_head(path, train(table, make_layers(table)), embedder="mini", data=data_hash(table),
              facts={"judged": judged_rows(table)})  # fmt: skip
    return path


@pytest.fixture
def process():
    return Background()


@pytest.fixture
def kept(fitted, process):
    return HeadUpkeep(fitted, process)


def history_of(n, version, models=None):
    table, _ = make_table(n, seed=3, **({"models": models} if models else {}))
    return SimpleNamespace(version=version, table=lambda: table)


def test_a_refit_waits_for_a_fifth_more_and_for_fifty(kept, process) -> None:
    starts = process.tables
    for version, n in enumerate((100, 119, 149, 150)):
        assert not kept.tend(history_of(n, version), Asked())
    assert [len(table) for table in starts] == [150]
    kept.tend(history_of(300, 3), Asked())
    assert len(starts) == 1, "the history has not changed since"
    kept.tend(history_of(199, 4), Asked())
    assert len(starts) == 1, "what was turned down is not tried again at once"
    kept.tend(history_of(200, 5), Asked())
    assert len(starts) == 2


def test_a_model_that_the_head_does_not_know_is_reason_enough_once(kept, process) -> None:
    models = {"small": -0.5, "middle": 0.7, "large": 2.0, "new": 1.0}
    for version in range(3):
        kept.tend(history_of(100, version, models), Asked())
    assert len(process.tables) == 1


def with_answers(rows, version):
    """The 100 records that the head was fitted on, so many of them with answers to compare now."""
    table, _ = make_table(100, seed=3)
    table.answers[:rows, :2] = 1
    table.answers[rows:, 0] = 1  # one answer alone compares nothing
    return SimpleNamespace(version=version, table=lambda: table)


def test_final_answers_that_came_later_are_reason_enough_once(kept, process) -> None:
    """Else plans would be forecast as if the history held none."""
    for version, (rows, starts) in enumerate([(0, 0), (49, 0), (50, 1), (50, 1), (100, 2)]):
        kept.tend(with_answers(rows, version), Asked())
        assert len(process.tables) == starts, rows


def with_new(verdicts, version, name="new"):
    """A history of 150 records in which a model beyond the head's has so many verdicts."""
    table, _ = make_table(150, seed=3, models={**STRENGTHS, name: 1.0})
    table.correctness[verdicts:, 3] = np.nan
    return SimpleNamespace(version=version, table=lambda: table)


@pytest.mark.parametrize("before", [[], [150]])
def test_a_new_model_is_reason_enough_whatever_was_fitted_before(fitted, process, before) -> None:
    """With its fiftieth verdict, and again with twice as many, if it is still not known then."""
    upkeep = HeadUpkeep(fitted, process)
    for version, n in enumerate(before):
        upkeep.tend(history_of(n, version), Asked())
    save_head(fitted, load_head(fitted, embedder="mini"), embedder="mini", data="x",
              facts={"judged": 150})  # fmt: skip
    process.tables.clear()
    for version, (verdicts, starts) in enumerate([(49, 0), (50, 1), (51, 1), (99, 1), (100, 2)], 9):
        upkeep.tend(with_new(verdicts, version), Asked())
        assert len(process.tables) == starts, verdicts
    upkeep.tend(with_new(60, 20, "another"), Asked())
    assert len(process.tables) == 3


def test_certificates_need_a_head_that_did_not_see_their_records(kept, process) -> None:
    kept.tend(history_of(100, 0), Asked(calibrate=True))
    kept.tend(history_of(100, 1), Asked(calibrate=True))
    assert len(process.tables) == 1


def test_a_head_that_certificates_need_is_asked_for_whatever_was_tried_before(
    kept, process, monkeypatch
) -> None:
    """Neither an earlier attempt, nor a history at rest, nor the time of the next look."""
    monkeypatch.setattr(module, "LOOK_S", 600.0)
    starts = process.tables
    kept.tend(history_of(150, 0), Asked())
    assert len(starts) == 1
    for _ in range(2):
        kept.tend(history_of(150, 0), Asked(calibrate=True))
    assert len(starts) == 2


def test_texts_that_are_not_kept_are_not_counted(kept, process) -> None:
    table, _ = make_table(400, seed=3)
    bare = dataclasses.replace(table, texts=table.texts[:100] + ("",) * 300)
    kept.tend(SimpleNamespace(version=9, table=lambda: bare), Asked())
    assert process.tables == []


def test_what_it_came_to_is_told_once(kept, process, caplog) -> None:
    caplog.set_level("INFO")
    process.result = RefitResult(True, 0.1, 0.2, 90)
    assert kept.tend(history_of(100, 0), Asked())
    process.result = RefitResult(False, 0.3, 0.2, 90, "no text")
    assert not kept.tend(history_of(100, 0), Asked())
    assert "on 90 records: taken" in caplog.text and "no text" in caplog.text


def test_without_a_head_nothing_is_fitted(tmp_path) -> None:
    upkeep = HeadUpkeep(tmp_path / "none")
    assert not upkeep.tend(history_of(500, 1), Asked())
    upkeep.close()


def stores(config):
    """A history in memory that keeps texts, with the real embedder."""
    return HISTORY, SimpleNamespace(wait=lambda _: EMBEDDER, close=lambda: None)


def records(start, stop):
    rng = np.random.default_rng(start)
    for i in range(start, stop):
        hard = i % 2
        text = f"Prove lemma {i} on compact sets." if hard else f"What is {i} plus {i + 1}?"
        outcomes = (
            Outcome("small", float(rng.uniform() < (0.2 if hard else 0.9)), 40 + 100 * hard),
            Outcome("large", float(rng.uniform() < 0.9), 60 + 200 * hard),
        )
        yield Record(f"r{i}", text, 12, outcomes)


@pytest.mark.timeout(300)
def test_an_engine_fits_its_head_anew_in_a_process_of_its_own(tmp_path, monkeypatch) -> None:
    global HISTORY, EMBEDDER
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aios_eccos.serve.upkeep.UPKEEP_S", 0.1)
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    HISTORY, EMBEDDER = MemoryHistory(), open_embedder()
    add(records(0, 140))
    table = HISTORY.table()
    parts = parts_of(table, calibrate=True)
    _, layers = EMBEDDER.embed_with_layers(table.texts)
    head = train(table.rows(parts.fitted), layers[parts.fitted])
    path = head_path(tmp_path)
    save_head(path, head, embedder=EMBEDDER.name, data="first", facts={"judged": 140})
    settings = parse_settings({"redis": "memory", "floor_mode": "certified"})
    config = Config(Location(None, None, tmp_path, "test"), settings, ())
    with Engine(config, models=POOL, stores=stores) as engine:
        assert engine.wait_ready(60)
        assert engine.router.learned.predictor.name == "retrieval", "it saw every record"
        until(lambda: engine.upkeep._head._background.running)
        child = engine.upkeep._head._background._running[0].pid
        if hasattr(os, "getpriority"):
            until(lambda: not alive(child) or os.getpriority(os.PRIO_PROCESS, child) == 19)
        until(lambda: engine.router.learned.predictor.name == "hybrid", 240)
        about = read_about(path)
        assert about["facts"]["judged"] == 140 and about["data"] != "first"
        calibrating = engine.router.learned.certifier.at(0.5).n
        assert (
            calibrating
            == len(about["apart"])
            == len(parts_of(HISTORY.table(), calibrate=True).apart)
        )
        assert path.with_suffix(".previous").exists()
    assert not alive(child)


def add(rows) -> None:
    rows = [*rows]
    HISTORY.add(rows, EMBEDDER.embed([row.text for row in rows]))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
