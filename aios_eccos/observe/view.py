"""What all shapes of what is shown have in common; see `views` for the shapes.

Amounts are dollars. Where no price is known (`money` is false) they are size units: output tokens
times billions of parameters. In JSON `cost_usd` is then null and `cost_units` says the amount, and
so for every key with `usd` in its name.
"""

from __future__ import annotations

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


def units_apart(value: Any, money: bool = True) -> Any:
    """The JSON value with amounts that are no dollars under keys of their own."""
    if isinstance(value, list | tuple):
        return [units_apart(item, money) for item in value]
    if not isinstance(value, dict):
        return value
    money, found = bool(value.get("money", money)), {}
    for name, item in value.items():
        found[name] = item if name in BY_NAME else units_apart(item, money)
        if not money and _of_dollars(name):
            found |= {name: None, name.replace("usd", "units"): found[name]}
    return found


def units_joined(value: Any, money: bool = True) -> Any:
    """Inverse of `units_apart`: amounts of either unit under the one name that the views have."""
    if isinstance(value, list | tuple):
        return [units_joined(item, money) for item in value]
    if not isinstance(value, dict):
        return value
    money, found = bool(value.get("money", money)), {}
    for name, item in value.items():
        found[name] = item if name in BY_NAME else units_joined(item, money)
    if not money:
        for name in [name for name in found if _of_dollars(name)]:
            found[name] = found.get(name.replace("usd", "units"), found[name])
    return found


def _of_dollars(name: str) -> bool:
    return name.endswith("_usd") or name.startswith("usd_")


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
        return units_joined(value)
