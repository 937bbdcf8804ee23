"""A small recorded world: questions on a circle, three models, an embedder without a model."""

import gzip
import json
import re

import numpy as np

NAMES = ("cheap", "middle", "strong")
STRENGTH = {"cheap": -0.5, "middle": 0.7, "strong": 2.0}
TOKENS = {"cheap": 80, "middle": 100, "strong": 120}
PRICES = {"cheap": (0.1, 0.1), "middle": (1.0, 1.0), "strong": (10.0, 10.0)}


class CircleEmbedder:
    """Reads the angle that stands in the text; whatever else stands there turns it a little."""

    name = identity = "circle"
    dimension = 4

    def embed(self, texts):
        found = (re.search(r"\d\.\d{6}", text) for text in texts)
        angle = np.array([0.0 if each is None else float(each[0]) for each in found])
        rows = np.stack(
            [np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1
        )
        return (rows / np.sqrt(2)).astype(np.float32)

    def embed_with_layers(self, texts):
        vectors = self.embed(texts)
        return vectors, np.tile(vectors, (1, 4))


def rows(n=420, seed=0, drop=None):
    """QAServe rows; `drop` = (row, model) without outcome."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        angle = rng.uniform(0, np.pi)
        outputs = []
        for name in NAMES:
            chance = 1 / (1 + np.exp(-(STRENGTH[name] + 2.5 * np.cos(angle))))
            if drop == (i, name):
                continue
            outputs.append(
                {
                    "model_name": name,
                    "correctness": bool(rng.uniform() < chance),
                    "output_token_length": TOKENS[name],
                }
            )
        made.append(
            {
                "query_id": f"q{i:04d}",
                "task": "easy" if angle < np.pi / 2 else "hard",
                "query": f"question {i} at {angle:.6f} degrees",
                "input_token_length": 20,
                "split": "test" if i % 3 == 0 else "train",
                "outputs": outputs,
            }
        )
    return made


def write(path, made):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in made)
    return path


def write_prices(path):
    models = {name: {"input": a, "output": b} for name, (a, b) in PRICES.items()}
    path.write_text(json.dumps({"models": models}), encoding="utf-8")
    return path
