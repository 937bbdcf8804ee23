"""Budget: who may ask next without spending more than was allowed."""

from __future__ import annotations

from aios_eccos.collect.client import Endpoint
from aios_eccos.collect.reply import Reply
from aios_eccos.errors import ConfigError
from aios_eccos.forecast.pricing import Prices, price_table
from aios_eccos.providers.tokens import estimated

#: A prompt's tokens are overestimated this much before they are counted.
SAFETY = 2


class Budget:
    """Money spent and money at stake. Not locked: the collector calls it under its own lock.

    A request may start while what was spent, what requests in flight may still cost, and what it
    may cost itself stay within the limit. When that no longer fits, a model may still ask one
    question at a time: so spending ends within one request per model of the limit.

    Args:
        endpoints: the models; an unknown price counts as the highest known one.
        limit: dollars, None = no limit.

    Raises:
        ConfigError: there is a limit, but no price to hold it by.
    """

    def __init__(self, endpoints: list[Endpoint], limit: float | None, max_tokens: int) -> None:
        self.limit = limit
        self.max_tokens = max_tokens
        self.spent = 0.0
        self.prices: Prices = price_table([endpoint.model for endpoint in endpoints])
        self._rates = {
            endpoint.name: (
                float(self.prices.input[column]),
                float(self.prices.output[column]),
                endpoint.cached_price,
            )
            for column, endpoint in enumerate(endpoints)
        }
        self._at_stake = 0.0
        self._in_flight = dict.fromkeys(self._rates, 0)
        if limit is not None and not self.prices.money:
            raise ConfigError(
                "--max-cost: no model has a known price; give it with --price NAME=IN,OUT or "
                "input_cost_per_token and output_cost_per_token in the configuration"
            )

    @property
    def reached(self) -> bool:
        return self.limit is not None and self.spent >= self.limit

    def cost(self, model: str, reply: Reply) -> float | None:
        """What a reply cost in dollars; reasoning is part of the output, cached of the input."""
        if not self.prices.money:
            return None
        read, write, cached = self._rates[model]
        fresh = reply.input_tokens - reply.cached_tokens
        reread = reply.cached_tokens * (read if cached is None else cached)
        return fresh * read + reread + reply.output_tokens * write

    def most(self, model: str, prompt: str) -> float:
        """What one request may cost at most."""
        read, write, _ = self._rates[model]
        tokens = SAFETY * estimated(prompt) + 64
        return tokens * read + self.max_tokens * write

    def start(self, model: str, most: float) -> bool:
        """Take a request into account; False if it may not start now."""
        if self.limit is not None:
            left = self.limit - self.spent - self._at_stake
            if left <= 0 or (most > left and self._in_flight[model]):
                return False
        self._at_stake += most
        self._in_flight[model] += 1
        return True

    def finish(self, model: str, most: float, cost: float | None) -> None:
        """A started request has ended and cost this much."""
        self._in_flight[model] -= 1
        self._at_stake = self._at_stake - most if any(self._in_flight.values()) else 0.0
        self.spent += cost or 0.0
