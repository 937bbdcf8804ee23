"""Answers of three real small models behind llama.cpp's server, as they came: `real_bodies.jsonl`.

SmolLM2 135M, Qwen2.5-Coder 0.5B and 1.5B Instruct, at temperature 0. Paths and times are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TEXT = Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8")
_ROWS = [json.loads(line) for line in _TEXT.split("\n") if line]


def bodies(case: str) -> list[tuple[str, dict[str, Any]]]:
    """(model, body) of every answer in a case."""
    found = [(row["model"], row["body"]) for row in _ROWS if row["case"] == case]
    assert found, case
    return found


def texts(case: str) -> list[str]:
    """The texts of the answers in a case."""
    return [body["choices"][0]["message"]["content"] for _, body in bodies(case)]


def good() -> list[dict[str, Any]]:
    """All bodies of status 200."""
    return [row["body"] for row in _ROWS if row["status"] == 200]
