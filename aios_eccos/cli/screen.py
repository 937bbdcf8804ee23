"""Where people read: a console on which words are words."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from aios_eccos.errors import plain


class PlainConsole(Console):
    """No markup, no names of signs, and nothing that a terminal obeys: names come from others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it stands, control characters escaped."""
        return super().render_str("\n".join(map(plain, text.split("\n"))), **options)
