"""What every history store does: in memory, in Chroma's folder, on a Chroma server."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from history_world import MODELS, Open, ToyEmbedder, record, some_records, unit, vectors

from aios_eccos.errors import HistoryError
from aios_eccos.history.history import EARLY_MOST, EARLY_S, History
from aios_eccos.history.memory import MemoryHistory, MemoryRows
from aios_eccos.history.open import open_history
from aios_eccos.records import Outcome, Record, Signals


def test_an_empty_history_has_no_neighbors(store: History) -> None:
    found = store.nearest(vectors(2), MODELS, 3)
    assert store.count() == 0
    assert found.ids == ((), ())
    assert found.similarity.shape == (2, 3)
    assert found.correctness.shape == (2, 3, 2)
    assert np.isnan(found.similarity).all()
    assert np.isnan(found.correctness).all()
    assert len(store.table()) == 0


def test_neighbors_are_the_nearest_by_cosine(store: History) -> None:
    known, queries = vectors(40), vectors(5, seed=1)
    assert store.add(some_records(40), known).total == 40
    found = store.nearest(queries, MODELS, 6)
    cosine = queries @ known.T
    for row in range(5):
        best = np.argsort(-cosine[row])[:6]
        assert found.ids[row] == tuple(f"r{i:03}" for i in best)
        assert found.tasks[row] == tuple(f"t{i % 3}" for i in best)
        np.testing.assert_allclose(found.similarity[row], cosine[row, best], atol=1e-5)
        np.testing.assert_array_equal(found.correctness[row, :, 1], best % 2)
        np.testing.assert_array_equal(found.output_tokens[row, :, 0], 100 + best)


def test_columns_follow_the_models_asked_for(store: History) -> None:
    store.add(some_records(2), vectors(2))
    found = store.nearest(vectors(1), ("small", "unheard of"), 2)
    assert np.isnan(found.correctness[..., 1]).all()
    assert not np.isnan(found.correctness[..., 0]).any()
    assert store.nearest(vectors(1), (), 2).correctness.shape == (1, 2, 0)


def test_missing_neighbors_are_padded(store: History) -> None:
    store.add(some_records(2), vectors(2))
    found = store.nearest(vectors(1), MODELS, 5)
    assert len(found.ids[0]) == 2
    assert np.isnan(found.similarity[0, 2:]).all()
    assert np.isnan(found.correctness[0, 2:]).all()
    assert not np.isnan(found.similarity[0, :2]).any()


def test_no_queries_find_nothing(store: History) -> None:
    store.add(some_records(2), vectors(2))
    assert store.nearest(vectors(1)[:0], MODELS, 3).similarity.shape == (0, 3)


def test_adding_the_same_again_changes_nothing(store: History) -> None:
    store.add(some_records(5), vectors(5))
    version, table = store.version, store.table()
    assert store.add(some_records(5), vectors(5)).total == 0
    assert store.version == version
    assert store.table().ids == table.ids
    assert store.count() == 5


def test_outcomes_are_merged_by_model(store: History) -> None:
    vector = vectors(1)
    store.add([record("a", Outcome("small", 1.0, 50), Outcome("large", None, 80))], vector)
    later = record("a", Outcome("large", 0.5), Outcome("third", 0.0, 9), task="new", split="val")
    assert store.add([later], vector).total == 1
    table = store.table()
    assert table.models == ("large", "small", "third")
    np.testing.assert_array_equal(table.correctness[0], [0.5, 1.0, 0.0])
    np.testing.assert_array_equal(table.output_tokens[0], [80, 50, 9])
    assert (table.tasks, table.splits) == (("new",), ("val",))


def test_a_known_record_needs_no_new_embedding(store: History) -> None:
    vector = vectors(1)
    store.add([record("a", Outcome("small", None, 50))], vector)
    assert store.add([record("a", Outcome("small", 1.0), text="")]).total == 1
    np.testing.assert_allclose(store.table().embeddings, vector, atol=1e-6)
    assert store.table().correctness[0, 0] == 1.0


def test_an_unknown_record_needs_an_embedding(store: History) -> None:
    with pytest.raises(HistoryError, match="'new' is new and has no embedding"):
        store.add([record("new")])
    assert store.count() == 0


def test_another_embedding_replaces_the_old_one(store: History) -> None:
    store.add([record("a")], vectors(1))
    assert store.add([record("a")], vectors(1, seed=9)).total == 1
    np.testing.assert_allclose(store.table().embeddings, vectors(1, seed=9), atol=1e-6)


def test_one_id_twice_in_a_call_is_one_record(store: History) -> None:
    twice = [record("a", Outcome("small", 1.0, 5)), record("a", Outcome("large", 0.0, 6))]
    assert store.add(twice, np.repeat(vectors(1), 2, axis=0)).total == 1
    assert store.count() == 1
    np.testing.assert_array_equal(store.table().correctness, [[0.0, 1.0]])


def test_an_answer_that_is_not_whole_is_missing(store: History) -> None:
    cut = Outcome("small", 0.0, 4096, error="truncated")
    store.add([record("a", cut, Outcome("large", 1.0, 5))], vectors(1))
    table, found = store.table(), store.nearest(vectors(1), MODELS, 1)
    for correctness in (table.correctness[0], found.correctness[0, 0]):
        np.testing.assert_array_equal(correctness, [1.0, np.nan])
    np.testing.assert_array_equal(table.output_tokens[0], [5, np.nan])
    store.add([record("a", Outcome("small", 1.0, 60))])
    np.testing.assert_array_equal(store.table().correctness[0], [1.0, 1.0])


def test_signals_are_kept_apart_and_are_no_correctness(store: History) -> None:
    seen = Signals(valid_json=True, tool_calls=False, truncated=False, empty=False)
    asked = [Outcome("small", None, 50, signals=seen), Outcome("large", None, 60)]
    store.add([record("a", *asked)], vectors(1))
    assert np.isnan(store.table().correctness).all()
    store.judge("a", "small", 0.0)
    ((kept, _),) = store.recall(["a"]).values()
    assert {o.model: o.signals for o in kept.outcomes} == {"small": seen, "large": Signals()}
    np.testing.assert_array_equal(store.table().correctness[0], [np.nan, 0.0])


def test_an_answer_cut_off_says_nothing_of_its_length(store: History) -> None:
    cut = Outcome("small", None, 16, signals=Signals(truncated=True))
    store.add([record("a", cut)], vectors(1))
    store.judge("a", "small", 1.0)
    table = store.table()
    assert table.correctness.tolist() == [[1.0]]
    assert np.isnan(table.output_tokens).all()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (unit([[1.0, 2.0]]), "shape"),
        (vectors(2), "shape"),
        (np.full((1, 8), np.nan, dtype=np.float32), "finite"),
    ],
)
def test_wrong_embeddings_are_refused(
    store: History, bad: np.ndarray[tuple[int, int], np.dtype[np.float32]], reason: str
) -> None:
    with pytest.raises(HistoryError, match=reason):
        store.add([record("a")], bad)
    assert store.count() == 0


def test_a_query_of_another_dimension_is_refused(store: History) -> None:
    store.add([record("a")], vectors(1))
    with pytest.raises(HistoryError, match="shape"):
        store.nearest(unit([[1.0, 0.0]]), MODELS, 1)


def test_a_verdict_is_kept(store: History) -> None:
    store.add([record("a", Outcome("small", None, 50), source="live")], vectors(1))
    version = store.version
    assert store.judge("a", "small", 0.25)
    assert store.version != version
    assert store.table().correctness[0, 0] == 0.25
    assert store.nearest(vectors(1), ("small",), 1).correctness[0, 0, 0] == 0.25
    assert store.table().output_tokens[0, 0] == 50


def unjudged(n: int) -> list[Record]:
    return [record(f"live{i}", Outcome("small", None, 50), source="live") for i in range(n)]


def test_neighbors_are_judged(store: History) -> None:
    query = vectors(1)
    near = unit((query + vectors(200, seed=2) * 0.01).tolist())
    store.add(unjudged(200), near)
    assert store.nearest(query, MODELS, 5).ids == ((),)
    judged = some_records(5)
    store.add(judged, vectors(5, seed=3))
    found = store.nearest(query, MODELS, 5)
    assert set(found.ids[0]) == {each.id for each in judged}
    assert not np.isnan(found.correctness).any()
    assert set(store.nearest(query, MODELS, 50).ids[0]) == {each.id for each in judged}

    assert store.judge("live7", "small", 0.5)
    found = store.nearest(query, ("small",), 5)
    assert found.ids[0][0] == "live7"
    assert found.correctness[0, 0, 0] == 0.5
    np.testing.assert_allclose(found.similarity[0, 0], query[0] @ near[7], atol=1e-5)
    assert store.count() == 205
    np.testing.assert_allclose(store.recall(["live7"])["live7"][1], near[7], atol=1e-6)


def test_a_row_is_judged_by_merging_too_and_is_so_no_longer_when_the_answer_was_none(
    store: History,
) -> None:
    store.add(unjudged(1), vectors(1))
    assert store.add([record("live0", Outcome("small", 1.0), text="")]).total == 1
    assert store.nearest(vectors(1), MODELS, 1).ids == (("live0",),)
    store.add([record("live0", Outcome("small", error="truncated"), text="")])
    assert store.nearest(vectors(1), MODELS, 1).ids == ((),)
    assert store.count() == len(store.table()) == 1


def test_compared_are_records_with_more_than_one_verdict(store: History) -> None:
    assert store.compared() == {}
    both = [Outcome("small", 1.0, 50), Outcome("large", 0.0, 80)]
    rows = [
        record("both", *both),
        record("one", both[0], Outcome("large", None, 80)),
        record("failed", both[0], Outcome("large", 1.0, error="429")),
        record("newer", *both),
    ]
    days = zip(rows, (1.0, 2.0, 3.0, 1e6), strict=True)
    store.add([replace(row, created=at) for row, at in days], vectors(4))
    assert list(store.compared()) == ["newer", "both"]
    store.judge("one", "large", 0.5)
    assert set(store.compared()) == {"newer", "both", "one"}


def test_the_table_prefers_judged_rows(store: History) -> None:
    rows = unjudged(40) + some_records(6)  # the live ones are newer
    store.add(rows, vectors(46))
    assert set(store.table(limit=6).ids) == {f"r{i:03}" for i in range(6)}
    table = store.table(limit=10)
    assert set(table.ids[:6]) == {f"r{i:03}" for i in range(6)}
    assert np.isnan(table.correctness[6:]).all()
    assert not np.isnan(table.output_tokens[6:]).all()
    store.judge("live3", "small", 1.0)
    assert store.table(limit=1).ids == ("live3",)


def test_rows_that_nobody_judged_are_forgotten_too(store: History) -> None:
    rows = [replace(each, agent="ann") for each in unjudged(4)]
    store.add(rows, vectors(4))
    store.judge("live0", "small", 1.0)
    assert store.forget(agent="ann") == 4
    assert store.count() == 0
    assert store.nearest(vectors(1), MODELS, 1).ids == ((),)


def test_a_verdict_on_an_unknown_record_is_none(store: History) -> None:
    version = store.version
    assert not store.judge("nobody", "small", 1.0)
    assert store.version == version


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_verdict_lies_in_0_to_1(store: History, value: float) -> None:
    store.add([record("a")], vectors(1))
    with pytest.raises(HistoryError, match=r"allowed 0\.\.1"):
        store.judge("a", "small", value)


def test_an_agent_is_forgotten(store: History) -> None:
    rows = [record(f"r{i}", source="live", agent="ann" if i % 2 else "bob") for i in range(6)]
    store.add(rows, vectors(6))
    store.nearest(vectors(1), MODELS, 6)
    version = store.version
    assert store.forget(agent="ann") == 3
    assert store.version != version
    assert set(store.table().ids) == {"r0", "r2", "r4"}
    assert set(store.nearest(vectors(1), MODELS, 6).ids[0]) == {"r0", "r2", "r4"}
    assert store.forget(agent="ann") == 0
    store.add([rows[1]], vectors(1))
    assert store.count() == 4


DAY_S = 86_400.0


def test_the_table_begins_with_the_newest_day(store: History) -> None:
    known = vectors(9)
    rows = [replace(each, created=DAY_S * i) for i, each in enumerate(some_records(9), start=1)]
    store.add(rows, known)
    table = store.table(limit=4)
    assert table.ids == ("r008", "r007", "r006", "r005")
    np.testing.assert_allclose(table.embeddings, known[[8, 7, 6, 5]], atol=1e-6)
    assert table.models == MODELS
    np.testing.assert_array_equal(table.input_tokens, [7] * 4)
    assert table.texts[0] == "text of r008"


def test_the_rows_of_one_day_are_sampled(store: History) -> None:
    store.add(some_records(60), vectors(60))
    some = [int(name[1:]) for name in store.table(limit=20).ids]
    assert some == [int(name[1:]) for name in store.table().ids][:20]
    assert len(set(some)) == 20
    assert min(some) < 20
    assert max(some) >= 40


def test_the_table_keeps_to_splits(store: History) -> None:
    store.add(some_records(9), vectors(9))
    table = store.table(splits=("train", "val"))
    assert set(table.splits) == {"train", "val"}
    assert len(table) == 6
    assert len(store.table(splits=("test",), limit=2)) == 2
    assert len(store.table(splits=())) == 0


@pytest.mark.parametrize("source", ["live", "audit"])
@pytest.mark.parametrize(
    ("setting", "kept"), [(None, {"given"}), (True, {"given", "said"}), (False, {""})]
)
def test_text_is_kept_only_where_told(
    open_store: Open, setting: bool | None, kept: set[str], source: str
) -> None:
    store = open_store(store_text=setting)
    rows = [
        record("a", text="given"),
        record("b", Outcome("small", 1.0, prediction="answer"), text="said", source=source),
    ]
    store.add(rows, vectors(2))
    assert set(store.table().texts) - {""} == kept - {""}


def test_any_text_survives(store: History) -> None:
    text = 'naïve 日本語 🙂 "quoted" \\back\\ line\nbreak\ttab' + "x" * 100_000
    store.add([record("ключ/1 #%", Outcome("modèle:7b", 1.0, 3), text=text)], vectors(1))
    table = store.table()
    assert (table.ids, table.texts, table.models) == (("ключ/1 #%",), (text,), ("modèle:7b",))


def test_threads_may_add_and_ask_at_once(store: History) -> None:
    errors: list[HistoryError] = []

    def work(number: int) -> None:
        try:
            for i in range(5):
                store.add([record(f"{number}-{i}")], vectors(1, seed=10 * number + i))
                found = store.nearest(vectors(2), MODELS, 4)
                assert not np.isnan(found.similarity[0, 0])
        except HistoryError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.count() == 20


def test_what_closes_with_it_is_closed_once() -> None:
    closed: list[str] = []
    with ExitStack() as closing:
        closing.callback(closed.append, "closed")
        store = History(MemoryRows(), closing=closing)
    assert closed == []
    store.close()
    store.close()
    assert closed == ["closed"]


def test_a_closed_history_says_so_and_gives_its_folder_back(tmp_path: Path) -> None:
    store = open_history("embedded", tmp_path, ToyEmbedder())
    store.close()
    store.close()
    with pytest.raises(HistoryError):
        store.table()
    open_history("embedded", tmp_path, ToyEmbedder()).close()


def test_what_is_unknown_stays_unknown(store: History) -> None:
    bare = Record("a", "", 0, (Outcome("small"),))
    store.add([bare], vectors(1))
    table = store.table()
    assert np.isnan(table.correctness).all()
    assert np.isnan(table.output_tokens).all()


# Two questions are never one.


LAW = record("0", Outcome("lawyer", 1.0, 9), text="Which law applies?")
SUM = record("0", Outcome("solver", 1.0, 9), text="What is 2 plus 2?")


def test_an_id_that_another_question_has_is_kept_apart(store: History) -> None:
    assert store.add([LAW], vectors(1)).renamed == ()
    changes = store.add([SUM], vectors(1, seed=1))
    ((old, new),) = changes.renamed
    assert (changes.added, changes.updated, old) == (1, 0, "0")
    table = store.table()
    assert dict(zip(table.ids, table.texts, strict=True)) == {"0": LAW.text, new: SUM.text}
    assert [o.model for o in store.recall(["0"])["0"][0].outcomes] == ["lawyer"]
    for again, vector in ((SUM, vectors(1, seed=1)), (LAW, vectors(1))):
        assert store.add([again], vector).total == 0
    assert store.count() == 2


def test_one_id_for_two_questions_in_one_call(store: History) -> None:
    both = [LAW, SUM, replace(SUM, text=f"  {SUM.text}\n"), LAW]
    changes = store.add(both, vectors(2)[[0, 1, 1, 0]])
    assert (changes.added, len(changes.renamed)) == (2, 1)
    assert sorted(store.table().texts) == sorted([LAW.text, SUM.text])
    assert store.add(both, vectors(2)[[0, 1, 1, 0]]).total == 0


def test_where_texts_are_not_kept_the_embeddings_tell(open_store: Open) -> None:
    store = open_store(store_text=False)
    store.add([LAW], vectors(1))
    assert store.add([SUM], vectors(1, seed=1)).renamed
    assert not store.add([replace(LAW, task="law")], vectors(1)).renamed
    assert store.count() == 2


def test_a_verdict_goes_to_whoever_had_the_id_first(store: History) -> None:
    store.add([LAW, SUM], vectors(2))
    assert store.judge("0", "lawyer", 0.25)
    assert store.recall(["0"])["0"][0].outcomes == (Outcome("lawyer", 0.25, 9),)


# Changes are counted as what they are.


def test_another_grade_is_an_update_once(store: History) -> None:
    store.add([record("a", Outcome("small", 1.0, 50))], vectors(1))
    better = [record("a", Outcome("small", 0.0, 50)), record("b")]
    changes = store.add(better, vectors(2))
    assert (changes.added, changes.updated) == (1, 1)
    changes = store.add(better, vectors(2))
    assert (changes.added, changes.updated) == (0, 0)


def test_grades_that_end_where_they_began_are_no_change(store: History) -> None:
    twice = [record("a", Outcome("small", grade, 50)) for grade in (1.0, 0.0)]
    store.add(twice, vectors(1)[[0, 0]])
    version = store.version
    assert store.add(twice, vectors(1)[[0, 0]]).total == 0
    assert store.version == version


# What cannot be stored keeps nothing else out.


@pytest.mark.parametrize("text", ["cut emoji \ud83d", "\udcff", "nul \0 in it", "x" * (2 << 20)])
def test_an_odd_text_is_mended_wherever_it_stands(open_store: Open, text: str) -> None:
    store = open_store(store_text=True)
    odd = record(
        "odd" + text[:9],
        Outcome("m" + text[:9], 1.0, 5, error=None, prediction=text),
        Outcome("other", error=text[:9]),
        text=text,
        task=text[:9],
        agent=text[:9],
        source="live",
    )
    assert store.add([record("one"), odd, record("two")], vectors(3)).added == 3
    assert store.count() == 3
    kept = next(row for row, _ in store.recall(store.table().ids).values() if row.agent)
    assert len(kept.text) <= 1 << 20 and kept.text.encode() and "\0" not in kept.text
    assert store.forget(agent=text[:9]) == 1


@pytest.mark.parametrize(
    "odd",
    [
        Outcome("small", float("nan"), 50),
        Outcome("small", None, 10**30),
        Outcome("small", None, -1),
        Outcome("small", None, 50, latency_s=float("nan")),
        Outcome("small", None, 50, latency_s=float("inf")),
    ],
)
def test_a_number_that_cannot_be_is_missing(store: History, odd: Outcome) -> None:
    store.add([record("a", odd, Outcome("large", 1.0, 9))], vectors(1))
    ((kept, _),) = store.recall(["a"]).values()
    assert kept.outcomes[0].correctness is None and kept.outcomes[0].latency_s is None
    assert kept.outcomes[0].output_tokens in (None, 50)
    assert store.table().correctness.tolist()[0][0] == 1.0


@pytest.mark.parametrize(
    "bad",
    [
        record("", text="no id"),
        record("bad", Outcome("", 1.0)),
        record("bad", Outcome("small", 1.5)),
        record("bad", input_tokens=10**12),
    ],
)
def test_a_record_that_cannot_be_stored_keeps_no_other_out(store: History, bad: Record) -> None:
    with pytest.raises(HistoryError, match="1 of 3 records cannot be stored"):
        store.add([record("one"), bad, record("two")], vectors(3))
    assert set(store.table().ids) == {"one", "two"}


def test_an_embedding_that_is_not_finite_keeps_no_other_out(store: History) -> None:
    broken = vectors(3)
    broken[1, 0] = np.inf
    with pytest.raises(HistoryError, match=r"1 of 3 .* not finite"):
        store.add([record("one"), record("bad"), record("two")], broken)
    assert set(store.table().ids) == {"one", "two"}


def test_more_ids_than_sqlite_takes_variables(store: History) -> None:
    store.add(some_records(3), vectors(3))
    ids = [f"unknown{i}" for i in range(33_000)] + ["r001"]
    assert set(store.recall(ids)) == {"r001"}


# Verdicts that come before their record.


def test_a_verdict_waits_for_its_record(store: History) -> None:
    assert not store.judge("call", "small", 0.0)
    assert not store.judge("call", "small", 0.5)
    assert not store.judge("call", "large", 1.0)
    assert store.count() == 0
    live = record("call", Outcome("small", None, 50), source="live")
    store.add([live, record("other")], vectors(2))
    table = store.table()
    row = table.correctness[table.ids.index("call")]
    assert dict(zip(table.models, row, strict=True)) == {"large": 1.0, "small": 0.5}
    store.judge("call", "small", 0.0)
    assert store.add([live], vectors(1)).total == 0, "what was early is used once"


def test_a_verdict_that_came_before_a_bad_record_waits_on(store: History) -> None:
    store.judge("call", "small", 1.0)
    with pytest.raises(HistoryError):
        store.add([record("call", input_tokens=-1)], vectors(1))
    store.add([record("call", Outcome("small", None, 50))], vectors(1))
    assert store.table().correctness.tolist() == [[1.0]]


def test_a_verdict_out_of_range_does_not_wait(store: History) -> None:
    with pytest.raises(HistoryError, match=r"allowed 0\.\.1"):
        store.judge("call", "small", 1.5)
    store.add([record("call", Outcome("small", None, 50))], vectors(1))
    assert np.isnan(store.table().correctness).all()


def test_few_verdicts_wait_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryHistory()
    for n in range(EARLY_MOST + 1):
        store.judge(f"call {n}", "small", 1.0)
    calls = [record(f"call {n}", Outcome("small", None, 5)) for n in (0, 1)]
    store.add(calls, vectors(2))
    assert np.isnan(store.table().correctness).tolist() in ([[True], [False]], [[False], [True]])
    now = time.monotonic()
    monkeypatch.setattr("aios_eccos.history.history.time.monotonic", lambda: now + EARLY_S + 1)
    store.judge("later", "small", 1.0)
    late = [record(f"call {n}", Outcome("small", None, 5)) for n in (2, EARLY_MOST)]
    store.add(late, vectors(2, seed=2))
    assert np.isnan(store.table().correctness).sum() == 3


def test_a_verdict_given_again_after_the_wait_waits_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = MemoryHistory(), time.monotonic()
    assert not store.judge("call", "small", 0.0)
    monkeypatch.setattr("aios_eccos.history.history.time.monotonic", lambda: now + EARLY_S + 1)
    assert not store.judge("call", "small", 1.0)
    store.add([record("call", Outcome("small", None, 5))], vectors(1))
    assert store.table().correctness.tolist() == [[1.0]]
