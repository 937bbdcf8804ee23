"""Keys of final answers beside outcomes: kept wherever outcomes are, and told apart from none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from history_world import Open, ToyEmbedder, record, vectors

from aios_eccos.errors import DataError
from aios_eccos.history.dataset import parse_row
from aios_eccos.history.history import History
from aios_eccos.history.ingest import drain_inbox, hand_over, ingest
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.history.open import open_history
from aios_eccos.history.rows import decode_message, encode_records, from_metadata, to_metadata
from aios_eccos.records import Outcome, Record, Signals
from aios_eccos.workload.memory import MemoryWorkload

ANSWERED = (
    record("a", Outcome("small", 1.0, answer="k1"), Outcome("large", 1.0, answer="k1")),
    record("b", Outcome("small", answer="k2"), Outcome("large", 1.0, 9, answer="k3")),
    record("c", Outcome("large", 1.0), Outcome("third", 0.0, answer="k1")),
)


def agreements(store: History) -> dict[str, list[bool | None]]:
    """By record: whether large agrees with small and with third; None = cannot be told."""
    table = store.table()
    columns = [table.models.index(name) for name in ("large", "small", "third")]
    found: dict[str, list[bool | None]] = {}
    for name, (large, *others) in zip(table.ids, table.answers[:, columns].tolist(), strict=True):
        found[name] = [large == other if large and other else None for other in others]
    return found


EXPECTED = {"a": [True, None], "b": [False, None], "c": [None, None]}


def test_a_table_tells_which_models_agreed(store: History) -> None:
    store.add(ANSWERED, vectors(3))
    assert agreements(store) == EXPECTED
    assert store.table().answers.dtype == np.int64


def test_the_table_knows_agreement_without_the_texts(open_store: Open) -> None:
    store = open_store(store_text=False)
    store.add(ANSWERED, vectors(3))
    assert agreements(store) == EXPECTED
    assert store.table().texts == ("", "", "")


def test_answers_come_back_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        store = open_history("embedded", tmp_path, ToyEmbedder())
        store.add(ANSWERED, vectors(3))
        store.close()
    store = open_history("embedded", tmp_path, ToyEmbedder())
    assert agreements(store) == EXPECTED
    rows = store.recall(["a", "b", "c"])
    store.close()
    answers = {name: [o.answer for o in row.outcomes] for name, (row, _) in rows.items()}
    assert answers == {"a": ["k1", "k1"], "b": ["k2", "k3"], "c": [None, "k1"]}


def test_an_outcome_that_comes_later_brings_its_answer_and_takes_no_other_away(
    store: History,
) -> None:
    store.add([ANSWERED[2]], vectors(1))
    store.add([record("c", Outcome("large", answer="k1"), Outcome("third", 1.0), text="")])
    ((row, _),) = store.recall(["c"]).values()
    assert [(o.model, o.correctness, o.answer) for o in row.outcomes] == [
        ("large", 1.0, "k1"),
        ("third", 1.0, "k1"),
    ]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("m"),
        Outcome("m", answer="key"),
        Outcome("m", 1.0, 5, 0.5, None, "text", Signals(True, False, None, True)),
        Outcome("m", 1.0, 5, 0.5, None, "text", Signals(True), "key"),
        Outcome("m", error="429", signals=Signals(empty=False), answer="key"),
    ],
)
def test_an_outcome_is_packed_with_all_it_has(outcome: Outcome) -> None:
    whole = record("a", outcome)
    assert from_metadata("a", to_metadata(whole)) == whole
    assert decode_message(encode_records([whole])).records == (whole,)


def test_an_outcome_of_an_earlier_version_has_no_answer() -> None:
    row = to_metadata(record("a")) | {"outcomes": '[["m",1.0,5,null,null,null,true]]'}
    assert from_metadata("a", row).outcomes == (Outcome("m", 1.0, 5, signals=Signals(True)),)


@pytest.mark.parametrize("answer", ["5", '{"a":1}', "[]"])
def test_an_answer_of_the_inbox_that_is_no_text_is_refused(answer: str) -> None:
    row = {"id": "a", **to_metadata(record("a"))}
    row["outcomes"] = f'[["m",1.0,5,null,null,null,null,null,null,null,{answer}]]'
    message = decode_message(json.dumps([row]).encode())
    assert message.records == ()
    assert len(message.refused) == 1


def row_with(*answers: object, **more: object) -> dict[str, object]:
    """A row of a data set, an output an answer."""
    outputs = [
        {"model_name": f"m{i}", "correctness": 1, "answer": answer, **more}
        for i, answer in enumerate(answers)
    ]
    return {"query_id": "q", "query": "What is it?", "input_token_length": 5, "outputs": outputs}


def parsed(*answers: object, **more: object) -> list[str | None]:
    return [outcome.answer for outcome in parse_row(row_with(*answers, **more)).outcomes]


def test_answers_of_a_data_set_are_compared_by_their_json_where_they_are_no_text() -> None:
    assert parsed("4", "4\0", 4, None, "", float("nan")) == ["4", "4", "4", None, None, None]
    one, other = parsed({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    assert one == other is not None


def test_an_answer_that_broke_off_is_none() -> None:
    assert parsed("4", error="timeout") == parsed("4", truncated=True) == [None]


def test_two_answers_of_one_model_in_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row_with(answer)) for answer in ("4", "5")))
    report = ingest([path], MemoryHistory(), ToyEmbedder(), key=str.upper)
    (bad,) = report.bad
    assert isinstance(bad, DataError)
    assert "stands twice" in str(bad)


def ingested(folder: Path, key: object) -> Record:
    """What a history has of a file with answers, which another process hands over or not."""
    path, store, inbox = folder / "data.jsonl", MemoryHistory(), MemoryWorkload()
    path.write_text(json.dumps(row_with("four", "four", "five", None)))
    ingest([path], store, ToyEmbedder(), key=key)  # type: ignore[arg-type]
    again = MemoryHistory()
    hand_over([path], inbox, key=key)  # type: ignore[arg-type]
    drain_inbox(inbox, again, ToyEmbedder())
    ((one, _),) = store.recall(["q"]).values()
    ((other, _),) = again.recall(["q"]).values()
    assert one.outcomes == other.outcomes
    assert ingest([path], store, ToyEmbedder(), key=key).unchanged == 1  # type: ignore[arg-type]
    return one


def test_of_a_data_sets_answers_keys_are_kept_and_no_more(tmp_path: Path) -> None:
    found = ingested(tmp_path, lambda answer: f"key {len(answer)} {answer[1]}")
    assert [o.answer for o in found.outcomes] == ["key 4 o", "key 4 o", "key 4 i", None]


def test_without_a_key_nothing_is_kept_of_them(tmp_path: Path) -> None:
    assert [o.answer for o in ingested(tmp_path, None).outcomes] == [None] * 4
