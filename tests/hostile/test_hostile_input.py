"""What comes in at any door is taken, or refused with an error of ours."""

from __future__ import annotations

import pytest

from integration.hostile.inputs import DOORS, knock

#: The same ones each time; `python -m integration.hostile` tries thousands.
EXAMPLES = 20


@pytest.mark.parametrize("name", DOORS)
def test_a_door_takes_or_refuses_whatever_comes(name: str) -> None:
    tried, faults = knock(DOORS[name], EXAMPLES)
    assert faults == []
    assert tried >= 1
