"""`aios-eccos demo`: its figures without prices, its table in 80 columns, and its end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from waiting import until

from aios_eccos.cli.main import main
from aios_eccos.config import Floor
from aios_eccos.decide.words import reason
from aios_eccos.errors import DataError
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.history.open import open_embedder
from aios_eccos.lab.commands import demo as command
from aios_eccos.lab.dataset import load_dataset, load_prices, pool
from aios_eccos.lab.demo import plans, summarize
from aios_eccos.lab.metrics import Frontier
from aios_eccos.lab.outlook import Outlook, Point, add_shipped, outlook
from aios_eccos.lab.sketch import sketch
from aios_eccos.lab.sketch import words as told
from aios_eccos.records import Outcome, Record
from aios_eccos.values import Answer, CallResult, Candidate, Decision, Lease, Model, Price, Query

ROOT = Path(__file__).parents[2]
HISTORY = [
    Record(
        id=f"q{i}",
        text=f"question {i}",
        input_tokens=10,
        outcomes=(
            Outcome("a-70b", correctness=1.0, output_tokens=20),
            Outcome("b-8b", correctness=0.0, output_tokens=30),
        ),
    )
    for i in range(4)
]


def models(**prices: float) -> list[Model]:
    """The two models, with a price per token of those that are named by their first letter."""
    return [
        Model(name=name, limit=2, input_price=prices.get(name[0]), output_price=prices.get(name[0]))
        for name in ("a-70b", "b-8b")
    ]


def settled(record: Record, column: int, best: int, floor: float = 0.8) -> CallResult:
    """A served call whose limits left `column`, where `best` would have been chosen."""
    cost = np.array([2.0, 2.0])
    cost[best] = 1.0
    candidate = Candidate(
        query=Query(text=record.text, agent="a"),
        models=("a-70b", "b-8b"),
        success=np.array([0.5, 0.5]),
        output_tokens=np.array([20.0, 30.0]),
        support=np.ones(2),
        cost=cost,
        allowed=np.ones(2, dtype=bool),
        novelty=0.0,
        worth=Price(floor=floor, value=1.0),
    )
    free = np.zeros(2, dtype=np.int64)
    lease = Lease(record.id, "slot")
    why = reason(candidate, column, lease, free)
    name = candidate.models[column]
    decision = Decision(candidate, name, lease, free, np.zeros(2), "", why, 1, 0.001, 0.0)
    answer = Answer(value=1.0, input_tokens=10, output_tokens=20)
    return CallResult(candidate.query, answer, decision, 1, 0.1, 0.2)


def cheapest(pool: list[Model]) -> str | None:
    return plans(pool, HISTORY, 1)["cheapest"][0]


def test_the_cheapest_is_judged_by_price_and_never_by_name() -> None:
    assert cheapest(models(a=1.0, b=2.0)) == "a-70b"
    assert cheapest(models(a=2.0, b=1.0)) == "b-8b"


def test_a_model_of_unknown_price_counts_as_the_dearest() -> None:
    # The two cost the same a token then, and a-70b's answers are shorter.
    assert cheapest(models(b=1.0)) == "a-70b"
    assert cheapest([*models(b=1.0), Model(name="unseen", limit=1, input_price=0.1)]) == "a-70b"


def test_without_any_price_size_and_length_order_the_models() -> None:
    assert cheapest(models()) == "b-8b"


def test_without_any_price_no_cost_is_told() -> None:
    calls = [settled(HISTORY[0], 0, 0)]
    assert summarize("eccos", len(HISTORY), calls, models(), {})["cost_usd"] is None
    priced = summarize("eccos", len(HISTORY), calls, models(b=0.1), {})
    # a-70b at b-8b's price: 10 tokens in, 20 out.
    assert priced["cost_usd"] == pytest.approx(3.0)


def test_floor_and_bound_limits_are_told() -> None:
    calls = [settled(HISTORY[i], column, 0) for i, column in enumerate((0, 1, 1, 0))]
    row = summarize("eccos", len(HISTORY), calls, models(), {})
    assert row["floor"] == pytest.approx(0.8)
    assert row["limited"] == pytest.approx(0.5)
    assert row["promised_success"] == pytest.approx(0.5)


def test_a_limit_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="'a': 0, wanted 1 or more"):
        pool(["a"], {}, {"a": 0}, 4)
    with pytest.raises(SystemExit):
        main(["demo", "--limit", "nano-1b=0"])
    assert "limit for 'nano-1b': 0" in capsys.readouterr().err


@pytest.mark.parametrize("speedup", ["0", "-1", "nan", "inf"])
def test_a_speedup_that_is_none_is_refused(
    speedup: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", f"--speedup={speedup}"])
    assert ended.value.code == 1
    assert "--speedup" in capsys.readouterr().err


# What is shown.


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "calls": 200,
        "answers": 200,
        "success": 0.73,
        "promised_success": None,
        "floor": None,
        "limited": None,
        "cost_usd": 2.7252,
        "wait_p50_s": 0.4712,
        "wait_p95_s": 12.3456,
        "latency_p50_s": 123.456,
        "latency_p95_s": 1234.56,
        "decision_p50_s": 0.0264,
        "decision_p99_s": 0.1234,
        "peak_in_flight": {"qwen2.5-72b-instruct": 32, "gpt-4o-mini": 3},
        "limits": {"qwen2.5-72b-instruct": 32, "gpt-4o-mini": 32},
        **changes,
    }


def rows(**ours: Any) -> list[dict[str, Any]]:
    told = {"promised_success": 0.742, "floor": 0.713, "limited": 0.125, "success": 1.0}
    first = row("eccos", **{**told, **ours})
    return [first, *(row(name) for name in ("round_robin", "cheapest", "strongest"))]


RELATIVE = Floor(0.95, relative=True)


def shown(found: list[dict[str, Any]], floor: Floor = RELATIVE) -> str:
    """As in a pipe, or a terminal, of 80 columns."""
    screen = Console(file=io.StringIO(), width=80)
    command._show(screen, found, floor)
    text: str = screen.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines()) <= 80
    return text


def test_the_table_fits_80_columns() -> None:
    text = shown(rows(cost_usd=112.7252))
    assert "…" not in text
    heads, first, second = text.splitlines()[1:4]
    assert " ".join(heads.split()) == (
        "strategy success promised cost $ wait s latency s decide ms busiest"
    )
    assert first.split()[:5] == ["eccos", "100.0", "%", "74.2", "%"]
    assert " ".join(second.split()) == (
        "round_robin 73.0 % - 2.7252 0.47/12.3 123/1235 26.4/123 32 of 32"
    )


def test_the_floor_is_set_beside_the_strongest_model_on_the_same_calls() -> None:
    found = rows(success=0.70)
    found[-1]["success"] = 0.80
    text = " ".join(shown(found).split())
    # 1.96 sqrt((0.7 x 0.3 + 0.8 x 0.2) / 200) / 0.8 = 0.1054
    assert (
        "On the same calls the strongest model succeeded in 80.0 %, eccos in 70.0 %: 87.5 % of "
        "that, where 95.0 % was asked (± 10.5, the sampling error of 200 calls)." in text
    )
    absolute = " ".join(shown(found, Floor(0.6, relative=False)).split())
    assert "87.5 % of that, where 75.0 % was asked" in absolute
    assert "Limits bound: 12.5 % of eccos's calls took another model" in text
    assert "Limits bound" not in shown(rows(limited=0.0))


def test_without_prices_the_table_says_so() -> None:
    found = [{**each, "cost_usd": None} for each in rows()]
    text = shown(found)
    assert text.count("no price") == 4
    assert "--prices" in text
    assert " x the strongest" not in text


def test_small_costs_are_not_zero() -> None:
    assert [command._dollars(cost) for cost in (0.0, 0.000012, 0.25)] == [
        "0.0000",
        "1.2e-05",
        "0.2500",
    ]


def test_a_strategy_without_an_answer_shows_dashes() -> None:
    none = summarize("eccos", len(HISTORY), [], models(a=1.0, b=1.0), {"a-70b": 0, "b-8b": 0})
    text = shown([none, *rows()[1:]])
    assert text.splitlines()[2].split()[:3] == ["eccos", "-", "-"]
    assert "On the same calls" not in text


# Real runs.


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short enough for a socket below it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)
        for process in naming(Path(folder)):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """HISTORY as a file: three rows to learn from, one to ask."""
    lines = [
        {
            "query_id": record.id,
            "query": record.text,
            "split": "train" if i < 3 else "test",
            "input_token_length": record.input_tokens,
            "outputs": [
                {
                    "model_name": outcome.model,
                    "correctness": outcome.correctness,
                    "output_token_length": outcome.output_tokens,
                }
                for outcome in record.outcomes
            ],
        }
        for i, record in enumerate(HISTORY)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def naming(folder: Path) -> list[int]:
    """Processes whose command line or environment names a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in said and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("processes", [2, 3], ids=["redis runs", "replay servers run"])
def test_a_termination_leaves_nothing_behind(processes: int, data: Path, place: Path) -> None:
    temporary = place / "tmp"
    temporary.mkdir()
    surroundings = {
        **{key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"},
        "AIOS_ECCOS_STATE": str(place / "state"),
        "AIOS_ECCOS_CACHE": str(place / "cache"),
        "TMPDIR": str(temporary),
    }
    words = [sys.executable, "-m", "aios_eccos.cli.main", "demo", "--data", str(data)]
    with subprocess.Popen(
        [*words, "--speedup", "0.1"],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            # In this order: the demo, its Redis, its replay servers.
            until(lambda: len(naming(place)) >= processes)
            assert list(temporary.glob("eccos-*"))
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in said
    # Replay servers end by themselves when their parent has.
    until(lambda: not naming(place))
    assert [str(p) for p in temporary.rglob("*") if p.name != ".ses"] == []


def test_the_handler_of_the_caller_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, command._terminable():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_data_without_prices(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    target = tmp_path / "out.json"
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--data", str(data), "--calls", "4", "--agents", "2", "--json", str(target)])
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out.count("no price") == 4
    found = {each["name"]: each for each in json.loads(target.read_text())["strategies"]}
    assert {each["cost_usd"] for each in found.values()} == {None}
    assert found["cheapest"]["peak_in_flight"]["a-70b"] == 0


# The first screen.


def seen(success: float = 0.77, **changes: Any) -> Outlook:
    points = [(0.34, 1.4e-5), (0.55, 1e-4), (0.68, 4e-4), (0.80, 3e-3)]
    names = ("nano-1b", "small-8b", "medium-70b", "large-400b")
    models = tuple(Point(n, s, c) for n, (s, c) in zip(names, points, strict=True))
    front = Frontier.of(np.geomspace(1.4e-5, 3e-3, 30), np.linspace(0.34, 0.81, 30))
    facts: dict[str, Any] = {
        "calls": 120, "ours": Point("eccos", success, 1e-3), "error": 0.08, "ratio_error": 0.06,
        "strongest": models[-1], "models": models, "frontier": front, "money": True,
    }  # fmt: skip
    return Outlook(**{**facts, **changes})


def test_the_picture_fits_a_small_terminal_and_shows_every_model() -> None:
    lines = [line.plain for line in [*sketch(seen()), *told(seen(), RELATIVE)]]
    assert len(lines) <= 19
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for name in ("nano-1b", "small-8b", "medium-70b", "large-400b", "eccos"):
        assert name in text
    assert text.isascii() or set(text) - set(map(chr, range(128))) == {"±"}


def test_higher_is_better_and_right_is_dearer() -> None:
    rows = [line.plain for line in sketch(seen())]
    at = {name: next((i, r.index(name)) for i, r in enumerate(rows) if name in r) for name in
          ("nano-1b", "small-8b", "medium-70b")}  # fmt: skip
    assert at["nano-1b"][0] > at["small-8b"][0] > at["medium-70b"][0]
    assert at["nano-1b"][1] < at["small-8b"][1] < at["medium-70b"][1]


@pytest.mark.parametrize(
    "changes",
    [
        {"money": False},
        {"models": (Point("only", 0.5, 1e-3),), "strongest": Point("only", 0.5, 1e-3)},
        {"models": (Point("free", 0.5, 0.0), Point("dear", 0.5, 1.0))},
        {"models": tuple(Point(f"a-model-of-a-long-name-{i}", 0.6, 1e-3) for i in range(12))},
        {"models": (Point("x" * 200, 0.0, 1e-3), Point("y", 1.0, 1e-9))},
    ],
    ids=["no prices", "one model", "a free model", "twelve in one place", "the whole range"],
)
def test_the_picture_holds_whatever_the_pool_is(changes: dict[str, Any]) -> None:
    lines = [line.plain for line in [*sketch(seen(**changes)), *told(seen(**changes), RELATIVE)]]
    assert max(map(len, lines)) <= 80


def test_floor_and_money_are_told_of_the_same_calls() -> None:
    text = " ".join(line.plain for line in told(seen(success=0.76), RELATIVE))
    assert (
        "On the same 120 calls large-400b, the strongest, succeeded in 80.0 %, eccos in 76.0 %, "
        "95.0 % of that (± 6.0)." in text
    )
    assert "Money: $1.00 instead of $3.00 per 1,000 calls, 66.7 % saved." in text
    plain = " ".join(line.plain for line in told(seen(success=0.76), Floor(0.75, relative=False)))
    assert "eccos in 76.0 % (± 8.0)." in plain


def test_the_shipped_pool_is_drawn_from_its_test_rows_alone(tmp_path: Path) -> None:
    dataset = load_dataset([command.SHIPPED_DATA])
    models_of = pool(dataset.models, load_prices(command.SHIPPED_PRICES), {}, 4)
    embedder = CachedEmbedder(open_embedder(), EmbeddingCache(tmp_path / "vectors.sqlite"))
    add_shipped(dataset, embedder, command.SHIPPED_VECTORS)
    embedder._embedder = None  # type: ignore[assignment]  # nothing is left to embed
    view = outlook(dataset, models_of, RELATIVE, embedder)
    assert view is not None
    rows = [r for r in dataset.split("test") if len(r.outcomes) == 4]
    best = [o.correctness or 0.0 for r in rows for o in r.outcomes if o.model == "large-400b"]
    assert (view.calls, view.strongest.name) == (len(rows), "large-400b")
    assert view.strongest.success == pytest.approx(sum(best) / len(best))
    assert 0.3 < view.saved < 0.9


def test_the_shipped_vectors_are_the_embedders_own() -> None:
    dataset, embedder = load_dataset([command.SHIPPED_DATA]), open_embedder()
    with np.load(command.SHIPPED_VECTORS, allow_pickle=False) as kept:
        assert str(kept["data"]) == dataset.hash
        # Else the demo embeds all over again: `python tools/make_demo_data.py --embed`.
        assert str(kept["identity"]) == embedder.identity
        shipped = kept["vectors"][::57].astype(np.float32)
    fresh = embedder.embed([record.text for record in dataset.records[::57]])
    assert (shipped * fresh).sum(axis=1) == pytest.approx(np.ones(len(fresh)), abs=3e-3)


def test_vectors_of_another_data_set_are_left_alone(tmp_path: Path) -> None:
    dataset = load_dataset([command.SHIPPED_DATA])
    cache = EmbeddingCache(tmp_path / "vectors.sqlite")
    embedder = CachedEmbedder(open_embedder(), cache)
    other = tmp_path / "other.npz"
    vectors = np.zeros((len(dataset.records), embedder.dimension), dtype=np.float16)
    facts = {"identity": np.array(embedder.identity), "data": np.array("another")}
    np.savez(other, vectors=vectors, **facts)
    (tmp_path / "damaged.npz").write_bytes(other.read_bytes()[:1000])
    for path in (other, tmp_path / "damaged.npz", tmp_path / "missing.npz"):
        add_shipped(dataset, embedder, path)
    assert np.linalg.norm(embedder.embed([dataset.records[0].text])) == pytest.approx(1.0, abs=1e-3)


def test_a_short_history_is_no_frontier(data: Path, tmp_path: Path) -> None:
    dataset = load_dataset([data])
    embedder = CachedEmbedder(open_embedder(), EmbeddingCache(tmp_path / "vectors.sqlite"))
    assert outlook(dataset, models(a=1.0, b=1.0), RELATIVE, embedder) is None
