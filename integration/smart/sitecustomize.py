"""Lets AIOS's `smart` strategy run without a network: our embedder, and prices from a file.

`SMART_PRICES` names a JSON file {model: [dollars per input token, per output token]}; without it,
prices are as AIOS ships them.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from integration.after_import import after_import


def patch(routing: Any) -> None:
    from integration.smart.embedding import SharedEmbedding

    routing.embedding_functions.DefaultEmbeddingFunction = SharedEmbedding
    path = os.environ.get("SMART_PRICES")
    if path:
        prices = json.loads(pathlib.Path(path).read_text())
        routing.get_cost_per_token = lambda name: tuple(prices.get(name, (0.0, 0.0)))


after_import("aios.llm_core.routing", patch)
