"""The study of long prompts: what is put around questions, and what it finds."""

from __future__ import annotations

import pytest

from aios_eccos.lab.problem import Arrival, problem_of
from aios_eccos.lab.studies.padding import AGENTS, KINDS, PLACES, around, of_agent, padding
from aios_eccos.lab.studies.prompts import FLOORS, long_prompts


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_its_size_and_differs_by_seed_alone(kind: str) -> None:
    found = padding(kind, 5_000, 1)
    assert 4_500 <= len(found) <= 5_500
    assert found == padding(kind, 5_000, 1) != padding(kind, 5_000, 2)


def test_a_question_stands_where_it_is_said() -> None:
    pad = padding("json", 3_000, 1)
    at = {place: around("Why?", place, pad).index("Why?") for place in PLACES}
    assert at["after"] == 0 and at["before"] == len(pad) + 2 and 1_000 < at["around"] < 2_000


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_sends_question_and_context(agent: str) -> None:
    said = "\n".join(message["content"] for message in of_agent(agent, "Why?", "the context"))
    assert "Why?" in said and "the context" in said and "{" not in said


def test_questions_of_agents_are_routed_as_bare_ones(circle) -> None:
    problem = problem_of(circle, 0, "hybrid", Arrival(order="file"))
    rows = long_prompts(problem, sizes=(2_000,), kinds=("prose",), rows=40)
    places = {(row["kind"], row["place"]) for row in rows}
    assert places == {("prose", place) for place in PLACES} | {("agent", a) for a in AGENTS}
    same = {row["place"]: min(row[f"same_pick_{floor}"] for floor in FLOORS) for row in rows}
    assert min(same[agent] for agent in AGENTS) >= 0.8, same
