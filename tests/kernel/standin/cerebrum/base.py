"""Queries and responses without a validation library."""

from typing import Any


class Fields:
    def __init__(self, **given: Any) -> None:
        names = [n for kind in type(self).__mro__ for n in vars(kind).get("__annotations__", ())]
        for name in names:
            setattr(self, name, given.get(name, getattr(type(self), name, None)))
