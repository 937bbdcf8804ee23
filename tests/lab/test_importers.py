"""Importers, each on a tiny file written by us in that format, and on files that are not of it."""

import csv
import gzip
import json

import pytest
import typer
from typer.testing import CliRunner

from aios_eccos.errors import DataError
from aios_eccos.lab.commands.importers import app
from aios_eccos.lab.dataset import load_dataset
from aios_eccos.lab.importers import (
    ENOUGH,
    read_qaserve,
    read_routerbench,
    refuse_implausible,
    write_rows,
)
from aios_eccos.lab.zeroeval import grade_zeroeval, read_zeroeval

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
    (row,) = read_zeroeval(result_dirs)
    assert row["query_id"] == "gsm/set-#0"
    assert row["query"] == "What is 6 x 7?"
    assert row["input_token_length"] > 5
    assert {o["model_name"]: o["correctness"] for o in row["outputs"]} == {
        "large": True, "small": False,
    }  # fmt: skip


def test_one_task_of_zeroeval_will_do(result_dirs):
    (row,) = read_zeroeval(result_dirs / "gsm")
    assert row["task"] == "gsm"


@pytest.mark.parametrize(
    ("task", "reference", "answer", "right"),
    [
        ("gsm", "# 18", '{"reasoning": "9 * 2", "answer": "18"}', True),
        ("gsm", "so #### 1,200", '{"answer": "$1200 a month"}', True),
        ("gsm", "#### 5", '{"answer": "6"}', False),
        ("gsm", "# 5", 'Sure: {"reasoning": "6 "or" 7", "answer": "5"}', True),
        ("gsm", "# 5", '{"answer": "6"} or rather {"answer": "5"}', False),
        ("gsm", "# 5", "It is 5.", False),
        ("gsm", "see above", '{"answer": "5"}', None),
        ("math-l5", "-15", '{"answer": "-15"}', True),
        ("math-l5", "4", '{"answer": "12/3"}', True),
        ("math-l5", "3", r'{"answer": "$3\\sqrt{5}$"}', True),
        ("crux", "[(4, 1), 'a']", '{"reasoning": "", "answer": "[(4, 1), \'a\']"}', True),
        ("crux", "[(4, 1), 'a']", '{"reasoning": "", "answer": "[(4,1), \'a\']"}', False),
        ("crux", "'abc'", '{"answer": "abc"}', True),
        ("mmlu-redux", "B", '{"answer": "B"}', True),
        ("mmlu-redux", "B", '{"answer": "B) Lima"}', True),
        ("mmlu-redux", "B", '{"answer": "C"}', False),
        ("trivia", "Paris", "The answer is: paris.", True),
    ],
)
def test_zeroeval_is_graded_by_its_own_rules(task, reference, answer, right):
    assert grade_zeroeval(task, reference, answer) is right


def test_a_model_of_zeroeval_that_answers_in_a_box_is_read_as_zeroeval_does():
    said = "The final answer is: $\\boxed{7}$"
    assert grade_zeroeval("gsm", "# 7", said, model="Meta-Llama-3.1-8B-Instruct") is True
    assert grade_zeroeval("gsm", "# 7", said, model="gemma-2-2b-it") is False


def test_the_whole_of_zeroeval_is_read_and_odd_files_are_named(tmp_path):
    def put(name, items):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(items))

    item = zeroeval_item(0, "q", "# 1", '{"answer": "1"}')
    put("gsm/a.json", [item, {**item, "id": "x", "output": []}])
    problem = {**item, "id": 3, "problem": "p", "answer": "1"}
    del problem["question"]
    put("math-l5/a.json", [problem])
    choices = {"choices": ["Oslo", "Lima"], "correct_answer": "Lima", "output": ['{"answer": "B"}']}
    mmlu = {**item, **choices}
    del mmlu["answer"]
    put("mmlu-redux/a.json", [mmlu])
    put("alpaca_eval/a.ae.json", [{"instruction": "hi", "output": "hello", "generator": "a"}])
    put("zebra-grid/a.json", [{"id": "z", "output": ["{}"], "puzzle": "3 houses"}])
    put("numersense-v2/sampling/a.json", [item])
    put("crux/torn.json", [])
    (tmp_path / "crux" / "torn.json").write_text("[")
    put("gsm.summary.json", {})
    odd = []
    rows = {row["query_id"]: row for row in read_zeroeval(tmp_path, odd.append)}
    assert set(rows) == {"gsm/set-#0", "math-l5/3", "mmlu-redux/set-#0"}
    assert all(row["outputs"][0]["correctness"] is True for row in rows.values())
    assert rows["mmlu-redux/set-#0"]["query"] == "q\nA. Oslo\nB. Lima"
    assert sorted(error.source for error in odd) == [
        "alpaca_eval/a.ae.json", "gsm/a.json", "numersense-v2/sampling", "torn.json",
        "zebra-grid/a.json",
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.04, 0.995, 1.0])
def test_an_import_in_which_hardly_any_or_nearly_all_are_right_does_not_finish(tmp_path, share):
    path, target = tmp_path / "q.json", tmp_path / "o.jsonl"
    outputs = [{"model_name": f"m{i}", "correctness": i < share * 200} for i in range(200)]
    path.write_text(json.dumps([{"query": "q", "input_token_length": 1, "outputs": outputs}]))
    command = ["qaserve", str(path), "-o", str(target)]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, DataError)
    assert "--accept" in str(done.exception)
    assert not target.exists()
    assert CliRunner().invoke(app, [*command, "--accept"]).exit_code == 0
    assert target.exists()


def test_each_task_that_is_graded_here_must_look_right():
    def rows(task, right):
        outputs = [{"model_name": str(i), "correctness": right} for i in range(ENOUGH)]
        return {"task": task, "outputs": outputs}

    mixed = [rows("gsm", 0.5), rows("crux", 0.0)]
    with pytest.raises(DataError, match="in crux"):
        list(refuse_implausible(mixed, by_task=True))
    assert list(refuse_implausible(mixed, by_task=False)) == mixed
    few = [{"task": "gsm", "outputs": [{"model_name": "a", "correctness": True}]}]
    assert list(refuse_implausible(few, by_task=True)) == few


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
        list(read_zeroeval(tmp_path))
    (tmp_path / "gsm").mkdir()
    (tmp_path / "gsm" / "m.json").write_text(content)
    with pytest.raises(DataError, match="ZeroEval's objects"):
        list(read_zeroeval(tmp_path))


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


NAN = '[{"query": "a", "input_token_length": 1, "outputs": [%s, %s]}]'


def test_a_number_that_is_none_is_missing_and_keeps_its_row(tmp_path):
    good = '{"model_name": "x", "correctness": 1, "output_token_length": 5}'
    odd = '{"model_name": "y", "correctness": NaN, "output_token_length": NaN}'
    (tmp_path / "q.json").write_text(NAN % (good, odd))
    (row,) = read_qaserve(tmp_path / "q.json")
    assert row["outputs"][0]["correctness"] == 1
    assert row["outputs"][1] == {
        "model_name": "y", "correctness": None, "output_token_length": None,
    }  # fmt: skip
    table = write_csv(tmp_path / "b.csv", [ROUTERBENCH | {"large-model": "nan"}])
    (row,) = read_routerbench(table)
    assert [output["correctness"] for output in row["outputs"]] == [0.0, None]


def test_only_a_tables_own_index_is_no_model_and_no_response_has_no_length(tmp_path):
    more = {"Unnamed: 0": "7", "Unbabel/Tower": "1.0", "Unbabel/Tower|model_response": "['x', 'y']"}
    row = ROUTERBENCH | {"prompt": "['Say \\'x\\'.', \"Now y.\"]", "large-model|model_response": ""}
    (found,) = read_routerbench(write_csv(tmp_path / "b.csv", [row | more]))
    assert found["query"] == "Say 'x'.\n\nNow y."
    lengths = {o["model_name"]: o["output_token_length"] for o in found["outputs"]}
    assert lengths == {"small/model": 4, "large-model": None, "Unbabel/Tower": 1}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("[1] Which planet?", "[1] Which planet?"),
        ("['It\\'s', 'on\\ntwo']", "It's\n\non\ntwo"),
        ("plain", "plain"),
        ("['\\d']", "\\d"),
    ],
)
def test_texts_that_are_lists_are_read_as_lists(tmp_path, text, query):
    (row,) = read_routerbench(write_csv(tmp_path / "b.csv", [ROUTERBENCH | {"prompt": text}]))
    assert row["query"] == query


def test_a_folder_of_files_is_read_and_what_is_none_of_them_is_named(tmp_path):
    write_csv(tmp_path / "a.csv", [ROUTERBENCH, ROUTERBENCH | {"small/model": "good"}])
    write_csv(tmp_path / "b.csv", [ROUTERBENCH | {"sample_id": "b"}])
    (tmp_path / "routerbench_0shot.pkl").write_bytes(b"\x80\x04.")
    (tmp_path / "README.md").write_text("about")
    odd = []
    rows = list(read_routerbench(tmp_path, odd.append))
    assert [row["query_id"] for row in rows] == ["arc.val.0", "b"]
    assert sorted(error.source for error in odd) == [
        "README.md", "a.csv", "routerbench_0shot.pkl",
    ]  # fmt: skip
    (tmp_path / "a.csv").unlink()
    (tmp_path / "b.csv").unlink()
    with pytest.raises(DataError):
        list(read_routerbench(tmp_path))


def test_a_line_that_is_no_json_is_left_out(tmp_path):
    good = json.dumps(QASERVE[0])
    (tmp_path / "q.jsonl").write_text(f'{good}\n{{"query": "to\n\n{good}\n')
    odd = []
    assert len(list(read_qaserve(tmp_path / "q.jsonl", odd.append))) == 2
    assert [(error.source, error.line) for error in odd] == [("q.jsonl", 2)]
