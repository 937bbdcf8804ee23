"""Importers, each on a tiny file written by us in that format, and on files that are not of it."""

import csv
import gzip
import json

import pytest
import typer
from typer.testing import CliRunner

from aios_eccos.errors import DataError
from aios_eccos.lab.commands.importers import app, grade_zeroeval
from aios_eccos.lab.dataset import load_dataset
from aios_eccos.lab.importers import read_qaserve, read_routerbench, read_zeroeval, write_rows

QASERVE = [
    {
        "query": "What is 2 + 2?",
        "split": "train",
        "input_token_length": 9,
        "correct_answer": "4",
        "outputs": [
            {
                "model_name": "small",
                "prediction": "4",
                "correctness": True,
                "output_token_length": 3,
            },
            {
                "model_name": "large",
                "prediction": "Four",
                "correctness": 1,
                "output_token_length": 5,
            },
        ],
    },
]


def zeroeval_item(number, question, answer, output):
    return {
        "session_id": f"set-#{number}",
        "chat_history": [f"## Question\n{question}\n## Instruction\nAnswer as JSON."],
        "model_input": "...",
        "output": [output],
        "generator": "org/model",
        "dataset": "gsm",
        "id": f"set-#{number}",
        "question": question,
        "answer": answer,
    }


@pytest.fixture
def result_dirs(tmp_path):
    for model, said in (("small", "41"), ("large", "42")):
        folder = tmp_path / "result_dirs" / "gsm"
        folder.mkdir(parents=True, exist_ok=True)
        item = zeroeval_item(0, "What is 6 x 7?", "6 x 7 = 42\n#### 42", f'{{"answer": "{said}"}}')
        (folder / f"{model}.json").write_text(json.dumps([item]))
    (tmp_path / "result_dirs" / "gsm.summary.json").write_text("{}")
    return tmp_path / "result_dirs"


ROUTERBENCH = {
    "sample_id": "arc.val.0",
    "prompt": "['Which planet is red?']",
    "eval_name": "arc-challenge",
    "small/model": "0.0",
    "large-model": "1.0",
    "small/model|model_response": "['Venus, of course']",
    "large-model|model_response": "['Mars']",
    "small/model|total_cost": "0.0001",
    "large-model|total_cost": "0.01",
    "oracle_model_to_route_to": "large-model",
}


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_qaserve_rows_come_without_the_answers(tmp_path):
    path = tmp_path / "qaserve.json"
    path.write_text(json.dumps(QASERVE))
    (row,) = read_qaserve(path)
    assert row["query"] == "What is 2 + 2?"
    assert row["split"] == "train"
    assert row["outputs"][1] == {
        "model_name": "large", "correctness": 1, "output_token_length": 5,
    }  # fmt: skip


def test_zeroeval_answers_are_gathered_by_question_and_graded(result_dirs):
    (row,) = read_zeroeval(result_dirs, grade_zeroeval)
    assert row["query_id"] == "gsm/set-#0"
    assert row["query"] == "What is 6 x 7?"
    assert row["input_token_length"] > 5
    assert {o["model_name"]: o["correctness"] for o in row["outputs"]} == {
        "large": True, "small": False,
    }  # fmt: skip


def test_one_task_of_zeroeval_will_do(result_dirs):
    (row,) = read_zeroeval(result_dirs / "gsm", grade_zeroeval)
    assert row["task"] == "gsm"


@pytest.mark.parametrize(
    ("task", "reference", "answer", "right"),
    [
        ("gsm", "so #### 1,200", '{"answer": "$1200"}', True),
        ("gsm", "#### 5", '{"answer": "6"}', False),
        ("crux", "[(4, 1), 'a']", '{"reasoning": "", "answer": "[(4,1), \\"a\\"]"}', True),
        ("crux", "'abc'", '{"answer": "abc"}', True),
        ("crux", "[1, 2]", '{"answer": "12"}', False),
        ("mmlu-redux", "B", '{"answer": "B"}', True),
        ("mmlu-redux", "B", '{"answer": "C"}', False),
        ("trivia", "Paris", "The answer is: paris.", True),
    ],
)
def test_zeroeval_is_graded_by_task(task, reference, answer, right):
    assert grade_zeroeval(task, reference, answer) is right


def test_zeroeval_maths_is_graded_as_latex():
    pytest.importorskip("math_verify")
    assert grade_zeroeval("math-l5", r"\frac{1}{2}", r'{"answer": "\\frac{1}{2}"}')


def test_routerbench_csv_and_json_give_the_same_rows(tmp_path):
    table = write_csv(tmp_path / "bench.csv", [ROUTERBENCH])
    (row,) = read_routerbench(table)
    assert row["query"] == "Which planet is red?"
    assert row["task"] == "arc-challenge"
    assert row["outputs"] == [
        {"model_name": "small/model", "correctness": 0.0, "output_token_length": 4},
        {"model_name": "large-model", "correctness": 1.0, "output_token_length": 1},
    ]
    as_json = tmp_path / "bench.json.gz"
    with gzip.open(as_json, "wt") as file:
        json.dump([ROUTERBENCH], file)
    assert list(read_routerbench(as_json)) == [row]


def test_routerbench_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "bench.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([ROUTERBENCH]), path)
    (row,) = read_routerbench(path)
    assert len(row["outputs"]) == 2
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError):
        list(read_routerbench(tmp_path / "bad.parquet"))


def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match="pickle can run code"):
        list(read_routerbench(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "{}", "wanted a JSON list"),
        ("x.json", "[1]", "no QAServe row"),
        ("x.json", '[{"query": "a", "outputs": 3, "input_token_length": 1}]', "wanted a list"),
        ("x.json", '[{"query": "a", "outputs": [], "input_token_length": 1}]', "x.json:1"),
        ("x.json", "[", "cannot be read as JSON"),
        ("x.jsonl", '{"query": "a"}\n', "x.jsonl:1"),
    ],
)
def test_what_is_no_qaserve_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_qaserve(tmp_path / name))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError):
        list(read_qaserve(tmp_path / "none.json"))


NO_ANSWER = '[{"id": 1, "question": "q", "output": [], "answer": "a"}]'


@pytest.mark.parametrize("content", ["[3]", '[{"id": 1}]', NO_ANSWER])
def test_what_is_no_zeroeval_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="result_dirs"):
        list(read_zeroeval(tmp_path, grade_zeroeval))
    (tmp_path / "gsm").mkdir()
    (tmp_path / "gsm" / "m.json").write_text(content)
    with pytest.raises(DataError, match="ZeroEval's objects"):
        list(read_zeroeval(tmp_path, grade_zeroeval))


def test_what_is_no_routerbench_is_refused(tmp_path):
    def refused(path, message):
        with pytest.raises(DataError, match=message):
            list(read_routerbench(path))

    refused(write_csv(tmp_path / "a.csv", [{"x": 1}]), "no RouterBench table")
    bare = {k: v for k, v in ROUTERBENCH.items() if "|" not in k}
    refused(write_csv(tmp_path / "b.csv", [bare]), "responses")
    refused(write_csv(tmp_path / "c.csv", [ROUTERBENCH | {"large-model": "good"}]), "no score")
    refused(write_csv(tmp_path / "d.csv", [ROUTERBENCH | {"large-model": "7"}]), "wanted 0 to 1")
    (tmp_path / "e.json").write_text("[3]")
    refused(tmp_path / "e.json", "one object a row")
    (tmp_path / "f.txt").write_text("")
    refused(tmp_path / "f.txt", "wanted .csv")
    refused(tmp_path / "none.csv", "No such file")


def test_nothing_is_written_of_a_bad_or_empty_file(tmp_path):
    target = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match="no rows"):
        write_rows([], target)
    with pytest.raises(DataError):
        write_rows([], tmp_path / "none" / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_commands_write_what_evaluate_reads(tmp_path, result_dirs):
    qaserve, bench = tmp_path / "q.json", write_csv(tmp_path / "bench.csv", [ROUTERBENCH])
    qaserve.write_text(json.dumps(QASERVE))
    sources = {"qaserve": qaserve, "zeroeval": result_dirs, "routerbench": bench}
    for command, source in sources.items():
        target = tmp_path / f"{command}.jsonl.gz"
        done = CliRunner().invoke(app, [command, str(source), "-o", str(target)])
        assert done.exit_code == 0, done.output
        found = load_dataset([target])
        assert len(found.records) == 1
        assert not found.bad
        assert len(found.models) == 2
    assert isinstance(app, typer.Typer)
