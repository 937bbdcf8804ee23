"""The documents say what the code does: settings, model keys, commands."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from aios_eccos.cli.main import COMMANDS
from aios_eccos.config import ModelEntry, Settings
from aios_eccos.history.dataset import read_records
from aios_eccos.records import Record

DOCS = Path(__file__).parents[1] / "docs"
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
TEXTS = "".join(
    path.read_text(encoding="utf-8")
    for path in [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
)
#: Keys of a model's entry that are AIOS's own.
AIOS_KEYS = {"name", "backend", "hostname", "api_key"}


def default_of(name: str) -> str:
    field = Settings.model_fields[name]
    value = field.default if field.default is not PydanticUndefined else field.default_factory()  # type: ignore[call-arg, misc]
    return "none" if value in (None, {}) else f"`{value}`"


def settings_rows() -> list[str]:
    (settings,) = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
    assert isinstance(settings, ast.ClassDef)
    described = {
        ast.unparse(field.target): " ".join(str(ast.literal_eval(text.value)).split())
        for field, text in itertools.pairwise(settings.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    return [
        f"| `{name}` | {default_of(name)} | {described[name]} |" for name in Settings.model_fields
    ]


@pytest.mark.parametrize("row", settings_rows())
def test_every_setting_has_its_line(row: str) -> None:
    assert row in SETTINGS


def test_no_line_describes_a_setting_that_is_gone() -> None:
    table = SETTINGS.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*Settings.model_fields]


@pytest.mark.parametrize("key", sorted(set(ModelEntry.model_fields) - AIOS_KEYS))
def test_every_key_of_a_model_is_described(key: str) -> None:
    assert f"`{key}`" in SETTINGS


def test_the_records_of_the_first_hour_can_be_read_as_they_stand(tmp_path: Path) -> None:
    shown = (DOCS / "first-hour.md").read_text(encoding="utf-8").split("```json\n")[1]
    path = tmp_path / "records.json"
    path.write_text(shown.split("```")[0], encoding="utf-8")
    (record,) = read_records(path)
    assert isinstance(record, Record) and len(record.outcomes) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_mentioned(name: str) -> None:
    assert f"aios-eccos {name}" in TEXTS
