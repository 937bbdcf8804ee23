from typing import Any

from .base import BaseScheduler


class RRScheduler(BaseScheduler):
    def __init__(self, *args: Any, time_slice: float = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.time_slice = time_slice
