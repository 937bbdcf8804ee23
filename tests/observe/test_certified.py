"""The certified floor while serving: its price, its refusal, its paper, and what it is void for."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import typer
from observe_world import LARGE, SMALL, Line, World, make_engine

from aios_eccos.cli import certify as command
from aios_eccos.config import parse_settings
from aios_eccos.decide.rule import preferred
from aios_eccos.errors import ConfigError, DataError, HistoryOwned
from aios_eccos.floor import learn
from aios_eccos.floor.certify import (
    Certificate,
    Certifier,
    Refusal,
    papers_json,
    read_papers,
    success_bound,
)
from aios_eccos.floor.configured import certificates
from aios_eccos.floor.explore import explore_batch
from aios_eccos.floor.learn import learn_from
from aios_eccos.forecast.parts import calibration
from aios_eccos.locate import Config, Location
from aios_eccos.observe import render
from aios_eccos.observe.views import EdgeView
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import CERTIFICATES
from aios_eccos.values import Query, Session

POOL = [SMALL.model(), LARGE.model()]


def serving(folder, **settings):
    return make_engine(folder, **{"floor_mode": "certified", "quality_floor": 0.7, **settings})


def test_a_certified_floor_is_served_at_its_price(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        knows = engine.router.learned
        paper = certificates(knows.certifier, knows.book, engine.config.settings)["quality_floor"]
        assert isinstance(paper, Certificate)
        rows = engine.history.table()
        assert paper.n == int(calibration(rows.keys).sum()) > 40
        world = World(engine)
        assert world.call("0.3").decision.candidate.price == paper.price
        (trace,) = world.reader.decisions(1).decisions
        assert trace.success_price_usd == pytest.approx(paper.price)
        kept = read_papers((tmp_path / CERTIFICATES).read_text())
        assert kept == {"quality_floor": paper}
        edge = EdgeView(mode="route", waiting=0, running=0, certificates=engine.certificates)
        assert "0.700 is certified, with 90% confidence" in " ".join(
            "\n".join(render.edge_lines(edge, True)).split()
        )


def test_no_call_waits_for_prices_that_learning_could_make(tmp_path, monkeypatch) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        engine.use(engine.config, models=[*POOL, replace(POOL[0], name="third")])
        engine.learn()
        known = Query("0.3", agent="w", input_tokens=50)
        pair = replace(known, allowed=frozenset({"small: 8b", "large"}))
        engine.router.forecast([pair])
        engine.learn()

        def made(*_):
            raise AssertionError("made while a call waits")

        monkeypatch.setattr("aios_eccos.floor.certify.certify", made)
        monkeypatch.setattr("aios_eccos.floor.curve.price_curve", made)
        candidates = engine.router.forecast([known, pair])
        assert all(np.isfinite(p.price) for p in candidates)


def test_a_model_that_nothing_calibrates_spoils_no_certificate(tmp_path) -> None:
    """It looks best to the price: cheap, and right whenever it was asked alone."""
    fresh = replace(POOL[0], name="fresh")
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        before = engine.router.learned.certifier.at(0.7)
        spots = np.linspace(0, 1, 200)
        rows = [
            Record(f"f{i}", "", 5, (Outcome("fresh", 1.0, 10),), source="live") for i in range(200)
        ]
        engine.history.add(rows, Line().try_embed([f"{spot:.4f}" for spot in spots]))
        engine.use(engine.config, models=[*POOL, fresh])
        engine.learn()
        paper = engine.router.learned.certifier.at(0.7)
        assert isinstance(paper, Certificate) and paper.n == before.n
        query = Query("0.3", agent="w", input_tokens=50)
        (candidate,) = engine.router.forecast([query])
        assert candidate.price == paper.price
        assert candidate.allowed.tolist() == [True, True, False]
        assert candidate.explorable.all(), "exploration may ask it"
        trial = replace(candidate, lot=0.0)
        judged = {"small: 8b": 999, "large": 999}
        assert explore_batch([trial], np.ones(3, dtype=np.int64), 0.02, judged)[0].column == 2
        (own,) = engine.router.forecast([replace(query, floor=0.7)])
        assert own.allowed.all(), "a call's own floor is not certified"
        (alone,) = engine.router.forecast([replace(query, allowed=frozenset({"fresh"}))])
        assert alone.allowed.tolist() == [False, False, True]


def test_what_cannot_be_certified_is_said_and_served_as_well_as_can_be(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING), serving(tmp_path, quality_floor=0.99) as engine:
        assert engine.wait_ready(60)
        assert "0.990 cannot be certified" in caplog.text
        paper = read_papers((tmp_path / CERTIFICATES).read_text())["quality_floor"]
        assert isinstance(paper, Refusal) and 0.5 < paper.reachable < 0.99
        assert f"at most {paper.reachable:.3f} can" in caplog.text
        decision = World(engine).call("0.05").decision
        assert decision.candidate.price == engine.router.learned.book.curve().prices[-1]
        assert decision.model == "large"
        with_reachable = engine.router.learned.certifier.at(paper.reachable - 1e-9)
        assert isinstance(with_reachable, Certificate)


def test_another_mode_takes_the_paper_away(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        assert (tmp_path / CERTIFICATES).exists()
        settings = engine.config.settings.model_copy(update={"floor_mode": "expected"})
        engine.use(replace(engine.config, settings=settings))
        engine.learn()
        assert not (tmp_path / CERTIFICATES).exists() and engine.certificates == []


def test_large_batches_and_conversations_are_served_at_the_one_price(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        texts = np.random.default_rng(0).uniform(0, 1, 130)
        talk = Session("large", read={"large": (50, time.time())})
        queries = [Query(f"{t:.6f}", agent="w", input_tokens=50, session=talk) for t in texts]
        candidates = engine.router.forecast(queries)
        assert len({p.price for p in candidates}) == 1
        assert not any(p.reread.any() for p in candidates)
        roomy = replace(engine.router.slots(), free={"small: 8b": 999, "large": 999})
        decisions = engine.router.assign(candidates, roomy).decisions
        served = [d for d in decisions if d.model is not None]
        assert len(served) >= 64
        assert all(d.candidate.models[preferred(d.candidate)] == d.model for d in served)
        for decision in served:
            engine.router.release(decision)


def test_a_call_that_a_limit_decided_is_not_spoken_of(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        world = World(engine)
        pool = [replace(POOL[0], limit=1), POOL[1]]
        engine.use(engine.config, models=pool)
        engine.learn()
        holder = engine.router.route([Query("0.01", agent="w", input_tokens=50)])
        assert holder.decisions[0].model == "small: 8b"
        world.call("0.01")
        engine.router.release(holder.decisions[0])
        view = world.reader.explain("last")
        assert view.bound_by == "limit of small: 8b"
        assert "certificate does not speak" in view.sentence
        assert world.reader.status().windows[0].limited == 1


def test_calibration_records_have_no_say_in_forecasts_or_grid(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        history, before = engine.history, engine.router.learned
        queries = [Query(f"{t:.3f}", input_tokens=50) for t in np.linspace(0.05, 0.95, 20)]
        forecast = [p.success for p in engine.router.forecast(queries)]
        rows = history.table()
        lies = [
            Record(name, "", 0, tuple(Outcome(m.name, 0.0) for m in POOL))
            for name, held in zip(rows.ids, calibration(rows.keys), strict=True)
            if held
        ]
        history.add(lies)
        engine.learn()
        after = engine.router.learned
        for one, other in zip(forecast, engine.router.forecast(queries), strict=True):
            np.testing.assert_array_equal(one, other.success)
        assert after.book.curve().prices.tolist() == before.book.curve().prices.tolist()
        assert isinstance(after.certifier.at(0.2), Refusal), "but all of the paper rests on them"
        assert after.certifier.at(0.2).reachable == 0.0


def test_live_calls_with_one_verdict_do_not_calibrate(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        n = engine.router.learned.certifier.at(0.5).n
        rows = [
            Record(f"l{i}", "", 5, (Outcome("large", 1.0, 10),), source="live") for i in range(40)
        ]
        engine.history.add(rows, Line().try_embed(["0.5"] * 40))
        engine.learn()
        assert engine.router.learned.certifier.at(0.5).n == n


def test_a_head_that_saw_every_record_is_not_used(tmp_path, monkeypatch, caplog) -> None:
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"x")
    monkeypatch.setattr(learn, "load_apart", lambda path: None)
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        settings = engine.config.settings
        known = learn_from(engine.history, Line(), settings, POOL, head)
        assert known.predictor.name == "retrieval"
        assert isinstance(known.certifier.at(0.5), Certificate)
        assert "`aios-eccos train` makes one anew" in caplog.text


def test_without_verdicts_nothing_is_certified(tmp_path) -> None:
    with serving(tmp_path) as engine:
        assert engine.wait_ready(60)
        book = engine.router.learned.book
        nothing = np.empty((0, 2))
        certifier = Certifier(("small: 8b", "large"), nothing, nothing, nothing, book, "d")
        refused = certifier.at(0.5)
        assert isinstance(refused, Refusal) and refused.reachable == refused.n == 0
        assert certifier.at(0.5, ["small: 8b", "unheard of"]).reachable == 0.0


def test_papers_are_recomputed_by_whoever_reads_them() -> None:
    count = 90
    assert success_bound(count, 100, 0.1) == pytest.approx(0.8501, abs=1e-3)
    good = Certificate(0.8, 2.0, 100, 0.1, (3.0, 2.0), (95, count), "d")
    papers = {"quality_floor": good, "other": Refusal(0.99, 0.9, 100, 0.1)}
    assert read_papers(papers_json(papers)) == papers
    forged = papers_json({"quality_floor": replace(good, floor=0.86)})
    with pytest.raises(DataError, match="does not follow"):
        read_papers(forged)
    with pytest.raises(DataError, match="not a file of certificates"):
        read_papers(papers_json({"quality_floor": Refusal(float("nan"), 0.9, 100, 0.1)}))
    for odd in ("{}", "[]", '{"schema": "x", "floors": {}}', '{"floors": {"a": 1}}', "no"):
        with pytest.raises(DataError):
            read_papers(odd)


# The command.


class Loaded(Line):
    def embed(self, texts):
        return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(texts), 1))


@pytest.fixture
def found(tmp_path, monkeypatch):
    """A configuration whose history is the toy engine's."""
    with serving(tmp_path / "toy") as engine:
        assert engine.wait_ready(60)
        history = engine.history
    location = Location(None, None, tmp_path, "test")
    config = Config(location, parse_settings({"quality_floor": 0.7}), (SMALL, LARGE))
    monkeypatch.setattr(command, "located", lambda *_: config)
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda _: Loaded())
    monkeypatch.setattr("aios_eccos.history.open.open_history", lambda *_: history)
    return tmp_path


def test_the_command_certifies_refuses_and_checks(found, capsys) -> None:
    command.certify(floor="0.7", json_file="-")
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "aios-eccos/certify/1"
    paper = body["floors"]["quality_floor"]
    assert paper["certified"] and paper["floor"] == 0.7
    file = found / "paper.json"
    file.write_text(json.dumps({"schema": "aios-eccos/certificates/1", "floors": body["floors"]}))
    command.certify(check=file)
    assert "0.700 is certified" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(typer.Exit):
        command.certify(floor="0.999")
    with pytest.raises(ConfigError, match="exclude"):
        command.certify(floor="0.7", check=file)
    with pytest.raises(DataError, match="cannot be read"):
        command.certify(check=found / "missing")


class Slow(Loaded):
    """Its first use takes a while."""

    def embed(self, texts):
        threading.Event().wait(0.3)
        return super().embed(texts)


def test_the_command_does_not_end_while_a_thread_still_embeds(found, monkeypatch) -> None:
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda _: Slow())
    before = {*threading.enumerate()}
    command.certify(floor="0.7")
    left = {*threading.enumerate()} - before
    assert "eccos-embedder" not in {thread.name for thread in left}


def test_beside_a_kernel_its_own_papers_are_shown(found, monkeypatch, capsys) -> None:
    def owned(*_):
        raise HistoryOwned("a kernel has it")

    monkeypatch.setattr("aios_eccos.history.open.open_history", owned)
    with pytest.raises(HistoryOwned):
        command.certify()
    good = Certificate(0.8, 2.0, 100, 0.1, (3.0, 2.0), (95, 90), "d")
    (found / CERTIFICATES).write_text(papers_json({"quality_floor": good}))
    command.certify()
    assert "0.800 is certified" in " ".join(capsys.readouterr().out.split())
