"""QAServe's rows: what is read, and how what is wrong is named."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aios_eccos.errors import DataError
from aios_eccos.history import dataset
from aios_eccos.history.dataset import count_rows, parse_row, read_records
from aios_eccos.records import Outcome, Record


def row(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "query_id": "gsm/1",
        "task": "gsm",
        "query": "What is 2 + 2?",
        "input_token_length": 9,
        "outputs": [
            {"model_name": "small", "correctness": True, "output_token_length": 12},
            {"model_name": "large", "correctness": 0.5, "output_token_length": 30},
        ],
        "split": "train",
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


def answer(**changes: Any) -> dict[str, Any]:
    base = {"model_name": "small", "correctness": 1, "output_token_length": 12}
    return row(outputs=[{**base, **changes}])


def write(path: Path, rows: list[object]) -> Path:
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def good(found: list[Record | DataError]) -> list[Record]:
    return [one for one in found if isinstance(one, Record)]


def bad(found: list[Record | DataError]) -> list[str]:
    return [str(one) for one in found if isinstance(one, DataError)]


def test_a_row_as_qaserve_writes_it() -> None:
    assert parse_row(row()) == Record(
        id="gsm/1",
        text="What is 2 + 2?",
        input_tokens=9,
        outcomes=(Outcome("small", 1.0, 12), Outcome("large", 0.5, 30)),
        task="gsm",
        split="train",
    )


def test_optional_fields_may_be_missing() -> None:
    found = parse_row(row(query_id=..., task=..., split=None))
    assert found.id == hashlib.sha256(b"What is 2 + 2?").hexdigest()
    assert (found.task, found.split) == ("", "")


def test_ids_may_be_numbers() -> None:
    assert parse_row(row(query_id=17)).id == "17"


def test_what_is_not_known_of_an_answer_is_missing() -> None:
    assert parse_row(answer(correctness=None, output_token_length=None)).outcomes == (
        Outcome("small"),
    )


@pytest.mark.parametrize(
    ("marker", "error"),
    [
        ({"error": "429"}, "429"),
        ({"error": {"code": 5}}, "error"),
        ({"truncated": True}, "truncated"),
        ({"finish_reason": "length"}, "truncated"),
    ],
)
def test_the_grade_of_an_answer_that_is_not_whole_is_missing(
    marker: dict[str, Any], error: str
) -> None:
    (outcome,) = parse_row(answer(correctness=0, **marker)).outcomes
    assert (outcome.correctness, outcome.error, outcome.output_tokens) == (None, error, 12)


@pytest.mark.parametrize("marker", [{"error": None}, {"error": ""}, {"finish_reason": "stop"}])
def test_no_marker_is_no_error(marker: dict[str, Any]) -> None:
    (outcome,) = parse_row(answer(**marker)).outcomes
    assert (outcome.correctness, outcome.error) == (1.0, None)


def test_latency_and_prediction_are_kept() -> None:
    (outcome,) = parse_row(answer(latency_s=1.5, prediction="4\0")).outcomes
    assert (outcome.latency_s, outcome.prediction) == (1.5, "4")


def test_what_utf8_and_sqlite_cannot_hold_is_mended() -> None:
    found = parse_row(row(query="a\ud800b\0c"))
    assert found.text == "a?bc"
    found.text.encode()


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (row(query=...), "query"),
        (row(query="  "), "query"),
        (row(query=["a"]), "query"),
        (row(input_token_length=...), "input_token_length"),
        (row(input_token_length=-1), "input_token_length"),
        (row(input_token_length="9"), "input_token_length"),
        (row(input_token_length=True), "input_token_length"),
        (row(input_token_length=1.5), "input_token_length"),
        (row(input_token_length=float("nan")), "input_token_length"),
        (row(input_token_length=10**30), "input_token_length"),
        (row(outputs=...), "outputs"),
        (row(outputs=[]), "outputs"),
        (row(outputs={"small": 1}), "outputs"),
        (row(outputs=[3]), r"outputs\[0\]"),
        (row(outputs=[{"correctness": 1}]), r"outputs\[0\].model_name"),
        (row(outputs=2 * row()["outputs"]), r"outputs\[2\].model_name 'small' stands twice"),
        (answer(model_name=7), r"outputs\[0\].model_name"),
        (answer(model_name="a\nb"), r"outputs\[0\].model_name"),
        (answer(model_name="a" * 501), r"outputs\[0\].model_name"),
        (answer(correctness=1.01), r"outputs\[0\].correctness"),
        (answer(correctness=-0.01), r"outputs\[0\].correctness"),
        (answer(correctness=float("nan")), r"outputs\[0\].correctness"),
        (answer(correctness=float("inf")), r"outputs\[0\].correctness"),
        (answer(correctness="yes"), r"outputs\[0\].correctness"),
        (answer(correctness=10**400), r"outputs\[0\].correctness"),
        (answer(output_token_length=-3), r"outputs\[0\].output_token_length"),
        (answer(output_token_length=[3]), r"outputs\[0\].output_token_length"),
        (answer(latency_s=float("inf")), r"outputs\[0\].latency_s"),
        (answer(latency_s=10**400), r"outputs\[0\].latency_s"),
        (row(query_id={"a": 1}), "query_id"),
        (row(query_id=True), "query_id"),
        (row(task=3), "task"),
        (row(split="a\0\n"), "split"),
        ([row()], "wanted an object, found list"),
        ("text", "wanted an object, found str"),
        (None, "wanted an object, found NoneType"),
    ],
)
def test_a_wrong_field_is_named(wrong: object, place: str) -> None:
    with pytest.raises(DataError, match=place) as caught:
        parse_row(wrong)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "b.c.jsonl.gz"])
def test_good_rows_around_a_bad_one_are_kept(tmp_path: Path, name: str) -> None:
    rows = [row(query_id="1"), "{broken", "", row(query_id="2", outputs=[]), row(query_id="3")]
    path = write(tmp_path / name, rows)
    found = list(read_records(path))
    assert [one.id for one in good(found)] == ["1", "3"]
    first, second = bad(found)
    assert first.startswith(f"{path}:2: no JSON")
    assert second.startswith(f"{path}:4: outputs")
    assert count_rows([path]) == 5


def test_a_last_line_without_an_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for text, rows in (("", 0), ("{}", 1), ("{}\n", 1), ("{}\n{}", 2)):
        path.write_text(text)
        assert count_rows([path]) == rows


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("shape", ["list", "indented list", "one after the other", "one"])
def test_json_files(tmp_path: Path, name: str, shape: str) -> None:
    rows = [row(query_id="1"), row(query_id="2")]
    text = {
        "list": json.dumps(rows),
        "indented list": json.dumps(rows, indent=2),
        "one after the other": "\n".join(json.dumps(one, indent=1) for one in rows),
        "one": json.dumps(rows[0]),
    }[shape]
    found = list(read_records(write(tmp_path / name, [text])))
    assert [one.id for one in good(found)] == (["1"] if shape == "one" else ["1", "2"])
    assert not bad(found)


def test_bad_rows_of_a_json_list_are_named_by_line(tmp_path: Path) -> None:
    text = (
        f'[\n{json.dumps(row(query_id="1"))},\n{{"query": 3}},\n{json.dumps(row(query_id="2"))}\n]'
    )
    path = write(tmp_path / "a.json", [text])
    found = list(read_records(path))
    assert [one.id for one in good(found)] == ["1", "2"]
    assert [message.split(": ")[0] for message in bad(found)] == [f"{path}:3"]


def test_a_json_file_that_breaks_keeps_what_came_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ["[" + json.dumps(row()) + ",\n{broken"])
    found = list(read_records(path))
    assert len(good(found)) == 1
    assert bad(found)[0].startswith(f"{path}:2: no JSON, nothing is read from here on")


def test_a_list_that_does_not_end_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ["[" + json.dumps(row()) + ","])
    found = list(read_records(path))
    assert len(good(found)) == 1
    assert "the list does not end" in bad(found)[0]


def cut_gzip(path: Path) -> None:
    many = [row(query_id=str(n), query=f"{n} {n**9}") for n in range(3000)]
    data = gzip.compress("\n".join(json.dumps(one) for one in many).encode())
    path.write_bytes(data[: len(data) // 2])


def garbage_in_gzip(path: Path) -> None:
    cut_gzip(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(range(200)) * 3
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut_gzip, garbage_in_gzip])
def test_a_damaged_gzip_keeps_what_came_before(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.jsonl.gz"
    damage(path)
    found = list(read_records(path))
    assert len(good(found)) > 100
    assert "the file breaks off" in bad(found)[-1]
    assert count_rows([path]) is None


def test_a_file_that_is_no_gzip(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.json.gz"):
        (tmp_path / name).write_text("plain")
        assert len(bad(list(read_records(tmp_path / name)))) == 1


def test_a_row_without_end_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_ROW", 1 << 20)
    huge = '{"query": "' + "x" * (3 << 20) + '"}'
    path = write(tmp_path / "a.jsonl", [row(query_id="1"), huge, row(query_id="2")])
    found = list(read_records(path))
    assert [one.id for one in good(found)] == ["1", "2"]
    assert bad(found) == [f"{path}:2: row longer than 1 MB"]


def test_a_huge_json_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_JSON", 100)
    assert ".jsonl" in bad(list(read_records(write(tmp_path / "a.json", [[row(), row()]]))))[0]


def test_one_id_for_two_queries_is_named(tmp_path: Path) -> None:
    rows = [row(), row(), row(query="Another?"), row(query_id="2")]
    path = write(tmp_path / "a.jsonl", rows)
    found = list(read_records(path))
    assert [one.id for one in good(found)] == ["gsm/1", "gsm/1", "2"]
    assert bad(found) == [f"{path}:3: query_id 'gsm/1' stands twice, with different queries"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"outputs": [{"model_name": "small", "correctness": 0}]}, "outputs of 'small'"),
        ({"task": "sums"}, "tasks"),
        ({"split": "test"}, "splits"),
        ({"input_token_length": 10}, "lengths of the query"),
        ({"query": "What is 2  + 2?"}, None),
        ({"outputs": [{"model_name": "third", "correctness": 0}]}, None),
    ],
)
def test_of_two_rows_that_contradict_each_other_the_later_is_named(
    tmp_path: Path, change: dict[str, Any], what: str | None
) -> None:
    """Else each would undo the other, and ingesting the file again would never change nothing."""
    path = write(tmp_path / "a.jsonl", [row(), row(**change)])
    found = list(read_records(path))
    assert len(good(found)) == (2 if what is None else 1)
    assert [f"stands twice, with different {what}" in message for message in bad(found)] == (
        [] if what is None else [True]
    )


NAN = float("nan")


def test_what_is_not_a_number_in_one_outcome_is_missing_there() -> None:
    odd = {"model_name": "odd", "correctness": NAN, "output_token_length": NAN, "latency_s": NAN}
    found = parse_row(row(outputs=[*row()["outputs"], odd]))
    assert found.outcomes == (*parse_row(row()).outcomes, Outcome("odd"))


def test_a_row_without_any_grade_that_is_a_number_is_named(tmp_path: Path) -> None:
    """A grader that broke must not pass for a data set that nobody has judged."""
    none = [{"model_name": name, "correctness": NAN} for name in ("small", "large")]
    found = list(read_records(write(tmp_path / "a.jsonl", [row(outputs=none)])))
    assert [message.split(": ")[1] for message in bad(found)] == ["outputs[0].correctness = nan"]
    assert not good(found)


@pytest.mark.parametrize("name", ["a.csv", "a", "a.gz", "a.txt.gz"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="unknown kind"):
        list(read_records(write(tmp_path / name, [row()])))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: No such file"):
        list(read_records(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match="Is a directory"):
        list(read_records(_folder(tmp_path / "folder.jsonl")))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe{}",
        b"\x00" * 50,
        b'{"query": "\x00"}',
        b"[" * 100_000,
        b'{"query": NaN}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'"\\ud800"',
        "\ufeff{}".encode(),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_hostile_bytes_are_one_bad_row(tmp_path: Path, name: str, raw: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    found = list(read_records(path))
    assert not good(found)
    assert len(bad(found)) == 1
    assert len(bad(found)[0]) < 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted(row())), value=json_values)
def test_whatever_a_field_holds_a_row_is_read_or_named(field: str, value: object) -> None:
    try:
        found = parse_row(row(**{field: value}))
    except DataError as error:
        assert error.reason
    else:
        assert found.text.strip()
        assert found.input_tokens >= 0
        assert all(o.correctness is None or 0 <= o.correctness <= 1 for o in found.outcomes)


@given(field=st.sampled_from(sorted(answer()["outputs"][0])), value=json_values)
def test_whatever_an_answer_holds_a_row_is_read_or_named(field: str, value: object) -> None:
    try:
        (outcome,) = parse_row(answer(**{field: value})).outcomes
    except DataError as error:
        assert error.reason
    else:
        assert outcome.correctness is None or 0 <= outcome.correctness <= 1
        assert outcome.output_tokens is None or outcome.output_tokens >= 0


@pytest.mark.parametrize(("name", "rows"), [("math10", 2840), ("mixed4", 6040)])
def test_recorded_answers_are_read_whole(name: str, rows: int) -> None:
    folder = os.environ.get("AIOS_ECCOS_DATA")
    if folder is None:
        pytest.skip("AIOS_ECCOS_DATA names no folder of recorded answers")
    found = list(read_records(Path(folder) / f"{name}.jsonl.gz"))
    assert len(good(found)) == rows
    assert not bad(found)
