"""Queries and responses without a validation library."""

from typing import Any


class Fields:
    def __init__(self, **given: Any) -> None:
        for name in type(self).__annotations__:
            setattr(self, name, given.get(name, getattr(type(self), name, None)))
