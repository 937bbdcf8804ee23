"""The demo's data set is what its generator makes, and what it says it is."""

from __future__ import annotations

import gzip
import json
import runpy
from collections import defaultdict
from importlib import resources
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "make_demo_data.py"
DATA = resources.files("aios_eccos") / "data"


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in gzip.decompress(shipped()).splitlines()]


def shipped() -> bytes:
    return (DATA / "demo.jsonl.gz").read_bytes()


@pytest.mark.skipif(not TOOL.exists(), reason="tools/ is not part of an installed package")
def test_the_shipped_files_are_the_generators_output():
    tool = runpy.run_path(str(TOOL))
    assert gzip.decompress(shipped()).decode() == tool["demo_lines"]()
    assert (DATA / "demo_prices.json").read_text(encoding="utf-8") == tool["demo_prices"]()


def test_it_is_small_synthetic_and_split(rows):
    assert len(rows) <= 400
    assert len({r["query"] for r in rows}) == len({r["query_id"] for r in rows}) == len(rows)
    assert all(r["query_id"].startswith("synthetic/") for r in rows)
    splits = [r["split"] for r in rows]
    assert splits.count("test") == 120
    assert splits.count("val") == 40
    assert splits.count("train") == 240
    assert "SYNTHETIC" in (DATA / "README.md").read_text(encoding="utf-8")


def test_dearer_models_are_better_and_none_is_perfect(rows):
    prices = json.loads((DATA / "demo_prices.json").read_text(encoding="utf-8"))["models"]
    grades = defaultdict(list)
    for row in rows:
        for output in row["outputs"]:
            grades[output["model_name"]].append(output["correctness"])
    assert list(grades) == list(prices)
    means = [sum(g) / len(g) for g in grades.values()]
    assert means == sorted(means)
    assert means[-1] - means[0] > 0.3
    assert means[-1] < 0.95
    assert [p["output"] for p in prices.values()] == sorted(p["output"] for p in prices.values())
