"""Lets AIOS's `smart` strategy run without a network: our embedder, and prices from a file.

Loaded by PYTHONPATH into one kernel, for the comparison alone. `SMART_PRICES` names a JSON file
{model: [dollars per input token, per output token]}; without it, prices are as AIOS ships them.
"""

import importlib.abc
import json
import os
import pathlib
import sys

TARGET = "aios.llm_core.routing"


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != TARGET:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                run = spec.loader.exec_module

                def exec_module(module, run=run):
                    run(module)
                    patch(module)

                spec.loader.exec_module = exec_module
                return spec
        return None


def patch(routing):
    from integration.smart.embedding import SharedEmbedding

    routing.embedding_functions.DefaultEmbeddingFunction = SharedEmbedding
    path = os.environ.get("SMART_PRICES")
    if path:
        prices = json.loads(pathlib.Path(path).read_text())
        routing.get_cost_per_token = lambda name: tuple(prices.get(name, (0.0, 0.0)))


sys.meta_path.insert(0, Finder())
