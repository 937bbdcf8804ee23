"""The journal, the rows and the budget: what is on disk when, and what may be spent."""

from __future__ import annotations

import json

import pytest

from aios_eccos.collect.budget import Budget
from aios_eccos.collect.client import Endpoint
from aios_eccos.collect.journal import Answer, Journal
from aios_eccos.collect.questions import Question
from aios_eccos.collect.reply import GradedReply, Reply, RowFile, row_of
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.values import Model

REPLY = Reply("ok", "surrogate \ud800, ½\n", "", 10, 5, 3, 4, "usage", 0.5, 2)
ANSWER = Answer("q", "m", "hash", REPLY, "", 0.25, "2026-01-01T00:00:00.000+00:00")


def test_what_was_written_is_read_back(tmp_path):
    path = tmp_path / "j"
    with Journal(path) as journal:
        assert journal.answers == []
        journal.append(ANSWER)
        # On disk at once, not when the journal is closed.
        assert len(path.read_bytes().splitlines()) == 2
    with Journal(path) as journal:
        assert journal.answers == [ANSWER]


@pytest.mark.parametrize("torn", ["{", '{"question": "q", "mod', "?"])
def test_a_torn_last_line_is_removed(tmp_path, torn):
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append(ANSWER)
    whole = path.read_bytes()
    path.write_bytes(whole + torn.encode())
    with Journal(path) as journal:
        assert journal.answers == [ANSWER]
        journal.append(ANSWER)
    assert path.read_bytes().startswith(whole)
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("garbage\n", "j:2: damaged"),
        ("[1]\n", "j:2: damaged: no object"),
        ('{"question": "q"}\n', "j:2: damaged"),
    ],
)
def test_damage_in_the_middle_is_named(tmp_path, damage, complaint):
    path = tmp_path / "j"
    with Journal(path):
        pass
    with path.open("a", encoding="utf-8") as file:
        file.write(damage)
    with pytest.raises(DataError, match=complaint):
        Journal(path)


def test_another_file_is_not_taken_for_a_journal(tmp_path):
    path = tmp_path / "j"
    path.write_text('{"schema": "aios-eccos/collect-journal/9"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"collect-journal/9.*reads"):
        Journal(path)
    path.write_text('{"name": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"has no format.*move the file away"):
        Journal(path)
    with pytest.raises(DataError, match="directory"):
        Journal(tmp_path)


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(DataError, match=r"cannot be written.*No space"):
            journal.append(ANSWER)


def test_an_answer_after_the_end_is_dropped(tmp_path):
    with Journal(tmp_path / "j") as journal:
        pass
    journal.append(ANSWER)
    assert len((tmp_path / "j").read_bytes().splitlines()) == 1


def question(**changes):
    return Question(id="q", task="t", question="What?", answer="7", grader="numeric", **changes)


def test_a_row_marks_what_is_missing_and_what_was_counted():
    replies = {
        "good": GradedReply(Reply("ok", "7", "", 30, 5, 2, 1, "usage"), True),
        "bad": GradedReply(Reply("ok", "8", "", 10, 6, tokens_from="tokenizer"), False),
        "cut": GradedReply(Reply("truncated", "", "truncated", 20, 99, tokens_from="usage")),
        "down": GradedReply(Reply("error", error="503")),
    }
    row = row_of(question(), replies)
    assert row["input_token_length"] == 20
    assert row["outputs"] == [
        {
            "model_name": "good",
            "correctness": True,
            "output_token_length": 5,
            "input_token_length": 30,
            "reasoning_tokens": 2,
            "cached_tokens": 1,
            "answer": "number:7",
        },
        {
            "model_name": "bad",
            "correctness": False,
            "output_token_length": 6,
            "input_token_length": 10,
            "tokens_from": "tokenizer",
            "answer": "number:8",
        },
        {
            "model_name": "cut",
            "correctness": None,
            "output_token_length": 99,
            "input_token_length": 20,
            "error": "truncated",
        },
        {"model_name": "down", "correctness": None, "output_token_length": None, "error": "503"},
    ]
    assert row_of(question(), {"down": replies["down"]})["input_token_length"] == 2


def test_rows_are_replaced_at_one_stroke(tmp_path):
    path = tmp_path / "o.jsonl"
    path.write_text("old\n", encoding="utf-8")
    rows = RowFile(path)
    assert path.read_text(encoding="utf-8") == ""
    rows.append({"a": 1})
    rows.replace([{"b": 2}, {"c": 3}])
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"b": 2},
        {"c": 3},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["o.jsonl"]
    with pytest.raises(DataError, match="gone"):
        RowFile(tmp_path / "gone" / "o.jsonl")


def endpoint(name, read, write, cached=None):
    model = Model(name, input_price=read, output_price=write)
    return Endpoint(model, "http://x/v1", name, cached_price=cached)


def test_reasoning_and_cached_tokens_are_priced():
    budget = Budget([endpoint("m", 10.0, 100.0, 1.0), endpoint("n", 10.0, 100.0)], None, 9)
    # 6 fresh and 4 cached prompt tokens, 5 output tokens, 3 of them reasoning.
    assert budget.cost("m", REPLY) == 6 * 10 + 4 * 1 + 5 * 100
    assert budget.cost("n", REPLY) == 10 * 10 + 5 * 100


def test_a_budget_lets_start_only_what_it_can_pay():
    budget = Budget([endpoint("m", 0.0, 1.0), endpoint("n", 0.0, 1.0)], 10.0, 4)
    most = budget.most("m", "")
    assert most == 4
    assert budget.start("m", most)
    assert budget.start("m", most)
    assert not budget.start("m", most)  # 8 of 10 are at stake
    assert budget.start("n", most)  # an idle model may ask one
    assert not budget.start("n", most)  # nothing is left
    budget.finish("m", most, 1.0)
    assert budget.spent == 1
    for name in ("m", "n"):
        budget.finish(name, most, 4.0)
    assert not budget.reached
    assert budget.start("n", most)
    budget.finish("n", most, 1.0)
    assert budget.reached
    assert not budget.start("m", most)


def test_a_limit_needs_a_price():
    unpriced = [endpoint("m", None, None)]
    assert Budget(unpriced, None, 9).cost("m", REPLY) is None
    with pytest.raises(ConfigError, match="--price"):
        Budget(unpriced, 1.0, 9)
