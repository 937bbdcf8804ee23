"""Values from outside, made safe to hold, to log and to send."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

#: Deepest nesting of a value that is handed on; a writer of JSON gives up at about 1,000.
MOST_NESTED = 100


def clean(text: str) -> str:
    """The text with halves of characters replaced: no file, log or HTTP answer could hold them.

    Two halves that belong together become their character.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cleaned(value: Any, depth: int = 0) -> Any:
    """A JSON value with every text in it clean.

    A ValueError says that it is nested too deep, or holds a number that is not finite.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    if depth > MOST_NESTED:
        raise ValueError("nested too deep")
    if isinstance(value, Mapping):
        return {
            clean(key) if isinstance(key, str) else key: cleaned(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [cleaned(item, depth + 1) for item in value]
    return value


def strict_json(text: str) -> Any:
    """Parse JSON that others must be able to read; a ValueError if it is none, see `cleaned`."""
    try:
        return cleaned(json.loads(text, parse_constant=_refuse))
    except RecursionError:
        raise ValueError("nested too deep") from None


def written(value: object, *, sort_keys: bool = False) -> str:
    """A value as JSON, to be counted or compared; what is none, as Python shows it."""
    try:
        return json.dumps(value, sort_keys=sort_keys, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # keys without order, a circle, a great depth
        pass
    try:
        return repr(value)
    except RecursionError:
        return type(value).__name__


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
