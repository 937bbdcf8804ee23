"""The note in which a decision's verdict is kept."""

from __future__ import annotations

from aios_eccos.workload.ledger import Ledger


def read_verdicts(ledger: Ledger, identities: list[str]) -> list[float | None]:
    """The verdicts on decisions, None where there is none.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    found = ledger.notes([note_of(identity) for identity in identities])
    return [None if text is None else read_note(text)[0] for text in found]


def note_of(identity: str) -> str:
    """The name of a decision's note."""
    return f"verdict:{identity}"


def read_note(text: str) -> tuple[float, float]:
    """A note's verdict, and what it has added to the log of its price."""
    verdict, _, moved = text.partition(" ")
    return float(verdict), float(moved or 0.0)
