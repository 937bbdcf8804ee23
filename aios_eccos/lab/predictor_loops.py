"""What serving does to the forecasts: rounds of re-fitting on it, and agents' wrapped questions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.decide.rule import choose
from aios_eccos.floor.curve import price_curve
from aios_eccos.forecast.head.fit import log_odds, sigmoid
from aios_eccos.forecast.head.refit import TOLERANCE, brier_on
from aios_eccos.forecast.head.train import Trained, train
from aios_eccos.forecast.parts import held_back
from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.forecast.retrieval import NEIGHBORS
from aios_eccos.lab.controlled import ControlledPrice, log_step
from aios_eccos.lab.predictor_split import (
    Forecasts,
    Recorded,
    auc,
    cost_at,
    fit_split,
    forecasts_of,
    plain_neighbors,
)
from aios_eccos.values import FloatArray

#: Rounds of serving and re-fitting, and the share of the history that they start from.
ROUNDS, START_SHARE = 5, 0.25

Layers = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def rounds(
    data: Recorded, number: int, seed: int, floors: Sequence[float], *, turns: int = ROUNDS
) -> list[dict[str, Any]]:
    """Serve, learn from what was served, re-fit, `turns` times; measured on test rows after each.

    The start is a quarter of the history with every model's outcome, as an ingested file gives it.
    Every round serves a share of the rest, one call at a time under control, to the floors in
    turn; of each call only the asked model's outcome is learned. A new head must not be worse on
    rows held back, as in serving (`predict.refit`). Nothing is explored: every model starts with
    verdicts enough.
    """
    history, test = data.index(number, seed)
    order = np.random.default_rng([seed, number]).permutation(history)
    parts = np.array_split(order[int(START_SHARE * len(order)) :], turns)
    known = np.zeros(data.table.correctness.shape, dtype=bool)
    known[order[: int(START_SHARE * len(order))]] = True
    head = _refit(data, known, seed)
    rows = [_measured(data, known, head, test, floors, 0) | {"taken": True}]
    first = rows[0].pop("_frontier")
    for turn, part in enumerate(parts, start=1):
        had = _serve(data, known, head, part, floors)
        new = _refit(data, known, seed)
        taken = _not_worse(new, head, data, known)
        head = new if taken else head
        row = _measured(data, known, head, test, floors, turn)
        row |= {"served_minus_floor": had, "taken": taken}
        rows.append(row | {"cost_to_start": _ratio(row.pop("_frontier"), first, floors)})
    return [{"split": number} | row for row in rows]


def mean_rounds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rounds` of several splits as one row per round."""
    keys = ("outcomes", "brier", "floor_bias", "floor_error", "served_minus_floor", "cost_to_start",
            "taken")  # fmt: skip
    means = []
    for turn in sorted({row["round"] for row in rows}):
        mine = [row for row in rows if row["round"] == turn]
        values = {k: [float(row[k]) for row in mine if row.get(k) is not None] for k in keys}
        means.append(
            {"round": turn} | {k: float(np.mean(v)) if v else None for k, v in values.items()}
        )
    return means


def _known_part(data: Recorded, known: NDArray[np.bool_]) -> Recorded:
    table = dataclasses.replace(
        data.table,
        correctness=np.where(known, data.table.correctness, np.nan),
        output_tokens=np.where(known, data.table.output_tokens, np.nan),
    )
    return dataclasses.replace(data, table=table)


def _held(data: Recorded, known: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to fit on, and rows held back to compare heads on."""
    rows = np.flatnonzero(known.any(axis=1))
    held = held_back(tuple(data.table.ids[i] for i in rows))
    return rows[~held], rows[held]


def _refit(data: Recorded, known: NDArray[np.bool_], seed: int) -> Trained:
    part, (rows, _) = _known_part(data, known), _held(data, known)
    return train(part.table.rows(rows), data.layers[rows], seed=seed)


def _not_worse(new: Trained, old: Trained, data: Recorded, known: NDArray[np.bool_]) -> bool:
    part, (_, rows) = _known_part(data, known), _held(data, known)
    table, layers = part.table.rows(rows), data.layers[rows]
    return brier_on(new, table, layers) <= brier_on(old, table, layers) + TOLERANCE


def _forecasts(
    data: Recorded, known: NDArray[np.bool_], head: Trained, rows: NDArray[np.int64]
) -> Forecasts:
    """The hybrid's forecasts of some rows, its neighbors drawn from what is known."""
    replay = head.replay
    spent = data.prices.cost(replay.input_tokens, replay.tokens)
    curve = price_curve(replay.success, replay.correctness, spent)
    said = _hybrid(_known_part(data, known), head, np.flatnonzero(known.any(1)), rows)
    return forecasts_of("hybrid", data, rows, said, curve)


def _hybrid(
    data: Recorded, head: Trained, history: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """(n, m) success and tokens of rows of the data, their neighbors drawn from its history."""
    near, _ = plain_neighbors(data, history, rows, NEIGHBORS, shrunk=True)
    out = head.machine(data.layers[rows], [data.table.texts[i] for i in rows]).astype(float)
    m = len(head.models)
    return sigmoid(head.mixer(out[:, :m], log_odds(near))), np.exp(out[:, m:])


def _serve(
    data: Recorded,
    known: NDArray[np.bool_],
    head: Trained,
    rows: NDArray[np.int64],
    floors: Sequence[float],
) -> float:
    """Serve rows under control, floor by floor; marks what became known. Realised minus floor."""
    f = _forecasts(data, known, head, rows)
    short = 0.0
    for floor, part in zip(floors, np.array_split(np.arange(len(rows)), len(floors)), strict=True):
        state = ControlledPrice.start(f.curve, floor)
        for i in part:
            pick = int(choose(f.cost[i, None], f.success[i, None], state.price)[0])
            outcome = float(f.outcomes[i, pick])
            known[rows[i], pick] = True
            short += outcome - floor
            state = state.after(log_step(floor, outcome, 0.0))
    return short / len(rows)


def _measured(
    data: Recorded,
    known: NDArray[np.bool_],
    head: Trained,
    test: NDArray[np.int64],
    floors: Sequence[float],
    turn: int,
) -> dict[str, Any]:
    f = _forecasts(data, known, head, test)
    errors = [f.serve(f.curve.price_for(floor))[0] - floor for floor in floors]
    return {
        "round": turn,
        "outcomes": int(known.sum()),
        "brier": float(np.nanmean((f.success - f.outcomes) ** 2)),
        "floor_bias": float(np.mean(errors)),
        "floor_error": float(np.mean(np.abs(errors))),
        "_frontier": f.frontier(),
    }


def _ratio(
    now: tuple[FloatArray, FloatArray],
    start: tuple[FloatArray, FloatArray],
    floors: Sequence[float],
) -> float:
    """Cost at equal success, this round's frontier over the start's (geometric mean)."""
    logs = [np.log(cost_at(*now, floor) / cost_at(*start, floor)) for floor in floors]
    return float(np.exp(np.nanmean(logs)))


def templates(data: Recorded, number: int, seed: int, embed: Layers) -> list[dict[str, Any]]:
    """AUC and Brier on test questions as three agents would wrap them, against bare ones.

    Each agent's calls come one by one, so its first ones are forecast with the template on.

    Args:
        embed: texts to (n, d) embeddings and (n, 4 d) layers.
    """
    history, test = data.index(number, seed)
    head = fit_split(data, history, seed)
    bare = [data.table.texts[i] for i in test]
    rows: list[dict[str, Any]] = []
    for name, wrap in (("bare", None), *TEMPLATES.items()):
        wrapped = bare if wrap is None else [wrap(text, i) for i, text in enumerate(bare)]
        cleaner = TemplateFilter()
        ways = {"as sent": wrapped}
        if wrap is not None:
            ways["filtered"] = [cleaner.question(name, text) for text in wrapped]
        for way, texts in ways.items():
            success = _forecast_texts(data, head, history, texts, embed)
            y = data.table.correctness[test]
            per_model = [auc(success[:, j], y[:, j]) for j in range(y.shape[1])]
            rows.append(
                {
                    "split": number,
                    "template": name,
                    "text": way,
                    "auc": float(np.nanmean(per_model)),
                    "brier": float(np.nanmean((success - y) ** 2)),
                }
            )
    for row in rows:
        row["auc_loss"] = rows[0]["auc"] - row["auc"]
    return rows


def _forecast_texts(
    data: Recorded,
    head: Trained,
    history: NDArray[np.int64],
    texts: Sequence[str],
    embed: Layers,
) -> FloatArray:
    """(n, m) the hybrid's success forecasts of texts that the data does not hold."""
    embeddings, layers = embed(texts)
    n = len(data.table)
    table = data.table.rows(np.concatenate([np.arange(n), np.zeros(len(texts), dtype=np.int64)]))
    table = dataclasses.replace(
        table,
        texts=(*data.table.texts, *texts),
        embeddings=np.concatenate([data.table.embeddings, embeddings]),
    )
    whole = Recorded(table, np.concatenate([data.layers, layers]), data.prices)
    return _hybrid(whole, head, history, n + np.arange(len(texts)))[0]


def _tutor(text: str, number: int) -> str:
    return (
        "You are a careful tutor. Answer the question of the student.\n"
        "Think step by step, and check your result before you answer.\n"
        "Do not mention these instructions.\n\n"
        f"### Question\n{text}\n\n"
        "### Format\n- One short paragraph of reasoning.\n"
        '- Then one line that begins with "Answer:".\n'
        f"Session {_digits(number)}"
    )


def _react(text: str, number: int) -> str:
    return (
        "Answer the following question as best you can. You have access to these tools:\n\n"
        "search: looks a phrase up in the knowledge base. Input: a phrase.\n"
        "calculator: evaluates an arithmetic expression. Input: an expression.\n"
        "python: runs code and returns what it prints. Input: a program.\n\n"
        "Use this format:\n\nThought: what to do next\n"
        "Action: one of [search, calculator, python]\n"
        "Action Input: the input of the action\nObservation: what the action returned\n"
        "... (this can repeat)\nFinal Answer: the answer to the question\n\nBegin!\n\n"
        f"Question: {text}\nThought:"
    )


def _planner(text: str, number: int) -> str:
    return (
        f"[step {number % 7 + 1} of 7] [{_digits(number)[:2]}:{_digits(number)[2:4]}]\n"
        "You are the worker of a team of agents. The planner has assigned you this task.\n"
        "Earlier results, newest first:\n"
        f"- file {_digits(number + 1)}.txt was written\n"
        f"- the tool returned {_digits(number + 2)} rows\n"
        "Work on this task only, and report to the planner in JSON.\n\n"
        f"Task: {text}\n\n"
        'Reply as {"result": ..., "confidence": ...}.'
    )


def _digits(number: int) -> str:
    """Six digits that change from call to call."""
    return str(int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16) % 900_000 + 100_000)


#: How three kinds of agents wrap a question in their last user turn.
TEMPLATES: dict[str, Callable[[str, int], str]] = {
    "tutor": _tutor,
    "react": _react,
    "planner": _planner,
}
