"""What all shapes share: frozen, with amounts that are no dollars under keys of their own.

Where no price is known (`money` is false) amounts are size units: output tokens times billions of
parameters. In JSON `cost_usd` is then null and `cost_units` says the amount, and so for every key
with `usd` in its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

#: Dollars; in JSON null where `money` is false.
Usd = Annotated[
    float, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}, mode="serialization")
]
#: Keys whose values are mappings by the names of models, which may be anything.
BY_NAME = frozenset({"by_model", "shares_now", "shares_then", "correctness"})


def clean(value: Any, digits: int = 6) -> Any:
    """What JSON can say of a value: so many significant digits, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): clean(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def units_apart(value: Any, money: bool = True, *, back: bool = False) -> Any:
    """The JSON value with amounts that are no dollars under keys of their own.

    Args:
        money: whether amounts are dollars, where the value does not say.
        back: the inverse: amounts of either unit under the one name that the views have.
    """
    if isinstance(value, list | tuple):
        return [units_apart(item, money, back=back) for item in value]
    if not isinstance(value, dict):
        return value
    money = bool(value.get("money", money))
    found = {
        name: item if name in BY_NAME else units_apart(item, money, back=back)
        for name, item in value.items()
    }
    for name, amount in [] if money else [*found.items()]:
        if name.endswith("_usd") or name.startswith("usd_"):
            units = name.replace("usd", "units")
            found |= {name: found.get(units, amount)} if back else {name: None, units: amount}
    return found


class View(BaseModel):
    """Frozen; unknown fields of a newer version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    # With a type of its own, the answer would have no shape in OpenAPI.
    @model_serializer(mode="wrap")
    def say_units(self, shown: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return units_apart(shown(self))

    @model_validator(mode="before")
    @classmethod
    def read_units(cls, value: Any) -> Any:
        return units_apart(value, back=True)
