"""Notes as others may have written them: read by their shape, or not at all."""

from __future__ import annotations

import math
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

T = TypeVar("T")
#: A number that can be counted with.
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: Latest moment that is shown, seconds since the epoch: the year 5138.
LATEST = 1e11


def read_note(shape: TypeAdapter[T], text: str | None) -> T | None:
    """The value in a note of JSON; None where there is none, or one of another shape."""
    try:
        return None if text is None else shape.validate_json(text)
    except ValidationError:
        return None


def number_of(text: str | None) -> float | None:
    """The number in a note; None where it is none."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def moment_of(text: str | None) -> float | None:
    """The moment in a note, seconds since the epoch; None where it is none."""
    found = number_of(text)
    return found if found is not None and 0 <= found <= LATEST else None
