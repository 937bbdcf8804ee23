"""`aios-eccos import`: public data sets as QAServe rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn public data sets into QAServe rows for ingest, evaluate and demo.",
)
#: ZeroEval's tasks by how their answers are graded; others are compared as text.
NUMERIC, MATH, LITERAL = ("gsm",), ("math",), ("crux",)
CHOICE = ("mmlu", "gpqa", "arc", "truthfulqa")

Output = Annotated[Path, typer.Option("--output", "-o", help="JSON lines; .gz compresses.")]


@app.command()
def qaserve(
    path: Annotated[Path, typer.Argument(help="The JSON list (or .jsonl).")], output: Output
) -> None:
    """QAServe / OmniRouteEval JSON, as AIOS's own router bootstraps from."""
    from aios_eccos.lab.importers import read_qaserve

    _write(read_qaserve(path), output)


@app.command()
def zeroeval(
    path: Annotated[Path, typer.Argument(help="result_dirs, or one task's folder in it.")],
    output: Output,
) -> None:
    """ZeroEval `result_dirs`: answers are graded here; tokens are characters / 4."""
    from aios_eccos.lab.importers import read_zeroeval

    _write(read_zeroeval(path, grade_zeroeval), output)


@app.command()
def routerbench(
    path: Annotated[Path, typer.Argument(help="CSV, JSON or parquet; never pickle.")],
    output: Output,
) -> None:
    """A RouterBench table; tokens are characters / 4 of prompts and responses."""
    from aios_eccos.lab.importers import read_routerbench

    _write(read_routerbench(path), output)


def grade_zeroeval(task: str, reference: str, answer: str) -> bool:
    """Grade by task: numbers, LaTeX maths, Python literals, letters of choices, else text."""
    from aios_eccos.collect.choices import LETTERS
    from aios_eccos.collect.grade import grade
    from aios_eccos.collect.questions import Grader, Question

    name = task.lower()
    kind: Grader = "exact"
    choices: tuple[str, ...] = ()
    if name.startswith(NUMERIC):
        kind, reference = "numeric", reference.rsplit("####", 1)[-1].strip()
    elif name.startswith(MATH):
        kind = "math"
    elif name.startswith(LITERAL):
        return same_literal(reference, answer)
    elif name.startswith(CHOICE):
        kind, choices = "choice", tuple(f"choice {letter}" for letter in LETTERS)
    return grade(Question("", task, "", reference, kind, choices), answer)


def same_literal(reference: str, answer: str) -> bool:
    """Whether the final answer is the reference's Python value; quotes around text do not count."""
    from aios_eccos.collect.extract import statements

    stated = next(statements(answer), None)
    final = (stated and stated.text) or answer.strip()
    return _literal(final) == _literal(reference)


def _literal(text: str) -> object:
    import ast

    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text.strip().strip("'\"")


def _write(rows: Iterable[dict[str, object]], output: Path) -> None:
    from aios_eccos.lab.importers import write_rows

    typer.echo(f"{write_rows(rows, output)} rows in {output}", err=True)
