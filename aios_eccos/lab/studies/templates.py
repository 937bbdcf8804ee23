"""What agents' wrapped questions do to the forecasts, with and without the template filter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.lab.metrics import brier
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.studies.quality import mean_auc

#: How questions are worded in measurements, as data.
WORDINGS = yaml.safe_load((Path(__file__).parents[2] / "data" / "wordings.yaml").read_text("utf-8"))
TEMPLATES: dict[str, str] = WORDINGS["templates"]


def templates(problem: Problem, number: int) -> list[dict[str, Any]]:
    """AUC and Brier on test questions as three agents would wrap them, against bare ones.

    Each agent's calls come one by one, so its first ones are forecast with the template on.
    """
    bare = [*problem.test.texts]
    texts = {("bare", "as sent"): bare}
    for name, template in TEMPLATES.items():
        cleaner = TemplateFilter()
        wrapped = [_wrapped(template, text, i) for i, text in enumerate(bare)]
        texts[name, "as sent"] = wrapped
        texts[name, "filtered"] = [cleaner.question(name, text) for text in wrapped]
    rows: list[dict[str, Any]] = []
    for (name, way), said in texts.items():
        success, _ = problem.fitted.forecast(problem.kind, said, problem.test.input_tokens)
        found = mean_auc(success, problem.outcomes)
        loss = rows[0]["auc"] - found if rows else 0.0
        row = {"split": number, "template": name, "text": way, "auc": found}
        rows.append(row | {"brier": brier(success, problem.outcomes), "auc_loss": loss})
    return rows


def _wrapped(template: str, text: str, number: int) -> str:
    """A question in an agent's template; numbers in it change from call to call."""
    digits = [_digits(number + k) for k in range(3)]
    clock = f"{digits[0][:2]}:{digits[0][2:4]}"
    return template.format(text=text, digits=digits, clock=clock, step=number % 7 + 1)


def _digits(number: int) -> str:
    return str(int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16) % 900_000 + 100_000)
