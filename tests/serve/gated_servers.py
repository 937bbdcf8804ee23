"""Models' servers of which some fail, and which answer when a test lets them."""

from __future__ import annotations

import threading

from aios_eccos.values import Answer, Failure

DOWN = Failure("500", 500)


class Servers:
    """Answers for all models; `failing` ones fail, and all wait while `gate` is closed."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: dict[str, Failure] = {}
        self.gate = threading.Event()
        self.gate.set()

    def run(self, model: str, left: float) -> Answer:
        self.asked.append(model)
        assert self.gate.wait(60)
        return Answer(value=model, output_tokens=10, failure=self.failing.get(model))
