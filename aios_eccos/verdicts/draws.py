"""What was drawn for a call's audit, and what came of it: a short note, for whoever explains it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from aios_eccos.workload.notes import Finite, read_note
from aios_eccos.workload.store import Ledger

#: Seconds for which a call's audit can be explained.
KEPT_S = 7 * 86_400.0


class Draw(NamedTuple):
    """A model that an audit drew for a copy.

    Attributes:
        chance: that it was drawn with.
        verdict: 1 = better than the reference, 0 = as good, -1 = worse; None: it was not compared.
        source: equal answers, the judge, or unequal answers without a judge; None likewise.
    """

    model: str
    chance: Finite
    verdict: int | None = None
    source: Literal["agreement", "judge", "difference"] | None = None


_DRAWS = TypeAdapter(list[Draw])


def keep_draws(ledger: Ledger, call: str, draws: Sequence[Draw]) -> None:
    """Keep what an audit of a call drew.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    ledger.swap_note(_note_of(call), json.dumps(draws), KEPT_S)


def read_draws(ledger: Ledger, call: str) -> list[Draw]:
    """What the audit of a call drew; empty where there was none, or it is not known (any more).

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    (text,) = ledger.notes([_note_of(call)])
    return read_note(_DRAWS, text) or []


def _note_of(call: str) -> str:
    return f"audited:{call}"
