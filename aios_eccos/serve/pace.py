"""How fast each model writes, as seen here: forecasts how long a call holds a slot."""

from __future__ import annotations

from collections.abc import Sequence

from aios_eccos.values import Candidate

#: Seconds per output token where no model's pace is known yet.
USUAL_S = 0.02
#: Share of a new observation in a model's seconds per token.
GAIN = 0.1


class Pace:
    """Seconds per output token by model, smoothed."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, model: str, seconds: float, output_tokens: int) -> None:
        """A whole answer of that many tokens (> 0) took so long."""
        pace = seconds / output_tokens
        self._seconds[model] = self._seconds.get(model, pace) * (1 - GAIN) + pace * GAIN

    def slot_seconds(self, candidate: Candidate | None, models: Sequence[str]) -> float:
        """Forecast seconds that the call holds a slot, averaged over the models named."""
        if candidate is None or not models:
            return 1.0
        known = [*self._seconds.values()]
        usual = sum(known) / len(known) if known else USUAL_S
        times = [
            float(candidate.output_tokens[candidate.models.index(name)])
            * self._seconds.get(name, usual)
            for name in models
        ]
        return max(sum(times) / len(times), 1e-6)
