"""Make the demo's data set: aios_eccos/data/demo.jsonl.gz and demo_prices.json.

SYNTHETIC. The questions come from the templates below; no model ever saw them. The four models do
not exist, and whether one "answered" rightly is drawn with a seed: its ability at the task minus
the question's difficulty, through a logistic curve. A part of the difficulty can be read from the
text (kind, number of steps, size of the numbers, how well known a fact is); a part is hidden but
the same for all models; a part concerns one model alone. So a router has something to gain and
cannot be perfect, as on recorded answers. Dedicated to the public domain (CC0 1.0).

    python tools/make_demo_data.py            write both files
    python tools/make_demo_data.py --embed    and the questions' embeddings (needs the package)
"""

from __future__ import annotations

import gzip
import json
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).parent.parent / "aios_eccos" / "data"
SEED = 2502
ROWS_PER_TASK = 100
SPLITS = {"test": 0.3, "val": 0.1}  # the rest is train
#: Spread of the difficulty that no text shows, shared by all models, and of one model's own luck.
HIDDEN, OWN = 0.5, 0.4
PROMPT_TOKENS = 60

#: Ability in log-odds at difficulty 0 for (arithmetic, knowledge, code, competition), answer
#: length relative to the task's, dollars per million input and output tokens.
MODELS: dict[str, tuple[tuple[float, float, float, float], float, float, float]] = {
    "nano-1b": ((0.9, 0.3, -0.3, -1.1), 1.10, 0.02, 0.04),
    "small-8b": ((1.9, 1.0, 0.6, 0.0), 1.20, 0.06, 0.09),
    "medium-70b": ((2.8, 2.1, 1.5, 0.8), 0.95, 0.35, 0.45),
    "large-400b": ((3.4, 2.8, 2.4, 1.9), 1.00, 2.50, 10.00),
}
#: Tokens of an answer of ordinary difficulty.
LENGTHS = {"arithmetic": 140, "knowledge": 60, "code": 180, "competition": 420}

NAMES = ["Ana", "Bela", "Chidi", "Dana", "Emre", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi"]
NAMES += ["Lea", "Mateo", "Nia", "Oskar", "Priya", "Rosa", "Sami", "Tuan", "Yara"]
THINGS = ["apples", "stamps", "marbles", "pencils", "tickets", "shells", "cards", "beads", "coins"]
#: Things asked for, from well known to obscure.
FACTS = {
    "What is the capital of {}?": [
        *("France", "Japan", "Egypt", "Spain", "Canada", "Kenya", "Australia", "Turkey", "Peru"),
        *("Morocco", "Kazakhstan", "Myanmar", "Ivory Coast", "Burkina Faso", "Suriname", "Bhutan"),
        *("Palau", "Comoros", "Kiribati", "Eswatini"),
    ],
    "Which chemical element has the symbol {}?": [
        *("O", "Fe", "Au", "Na", "K", "Ag", "Pb", "Sn", "W", "Hg", "Sb", "Zr", "Pd", "Te", "Re"),
        *("Hf", "Dy", "Tm", "Pa", "Ho"),
    ],
    "In which year did this happen: {}?": [
        *("the first landing of people on the Moon", "the fall of the Berlin Wall"),
        *("the start of the First World War", "the storming of the Bastille"),
        *("the Great Fire of London", "the fall of Constantinople to the Ottomans"),
        *("the signing of Magna Carta", "the opening of the Suez Canal"),
        *("the Battle of Hastings", "the eruption of Krakatoa", "the Lisbon earthquake"),
        *("the Treaty of Tordesillas", "the Battle of Lepanto", "the Peace of Westphalia"),
        *("the Defenestration of Prague", "the Battle of Manzikert", "the Treaty of Verdun"),
        *("the Battle of Ain Jalut", "the Council of Chalcedon", "the Peace of Callias"),
    ],
    "Who wrote {}?": [
        *("Romeo and Juliet", "War and Peace", "Don Quixote", "Pride and Prejudice", "Faust"),
        *("The Divine Comedy", "Moby-Dick", "Madame Bovary", "The Trial", "Things Fall Apart"),
        *("Middlemarch", "The Master and Margarita", "The Leopard", "Effi Briest", "Pan Tadeusz"),
        *("The Good Soldier Svejk", "Max Havelaar", "The Tale of Genji", "The Book of Disquiet"),
        *("Simplicius Simplicissimus",),
    ],
    "In one sentence, what is {}?": [
        *("gravity", "photosynthesis", "a prime number", "inflation", "osmosis", "a glacier"),
        *("plate tectonics", "entropy", "a sonnet", "habeas corpus", "the Doppler effect"),
        *("opportunity cost", "the Krebs cycle", "a palimpsest", "the Coriolis effect"),
        *("a Nash equilibrium", "the Chandrasekhar limit", "the Mpemba effect", "a zeugma"),
        *("the Lindy effect",),
    ],
}

Question = tuple[str, float]
Maker = Callable[[random.Random], Question]


def step(rng: random.Random, name: str, thing: str, kind: int, have: int) -> tuple[str, int] | None:
    """A sentence that changes how many things there are, and the new count; None if it cannot."""
    few, days, share = rng.randint(3, 25), rng.randint(3, 8), rng.choice([10, 20, 25, 50])
    box = rng.randint(4, 12)
    if kind == 0:
        return f"{name} buys {few} more.", have + few
    if kind == 1 and have > few:
        return f"{name} gives {few} of them to {rng.choice(NAMES)}'s sister.", have - few
    if kind == 2:
        return f"An aunt doubles what {name} has.", have * 2
    if kind == 3 and have * share % 100 == 0:
        return f"{name} loses {share} percent of the {thing}.", have - have * share // 100
    if kind == 4 and have % 3 == 0:
        return f"A third of the {thing} is sold at ${days} each.", have * 2 // 3
    if kind == 5:
        return f"Each day for {days} days {name} finds {box} more {thing}.", have + days * box
    if kind == 6 and have > 40:
        text = f"{name} fills as many boxes of {box} as possible and keeps only what is left over,"
        return f"{text} plus two full boxes.", have % box + 2 * box
    return None


def arithmetic(rng: random.Random) -> Question:
    """A word problem; each further step makes it harder, and so do larger numbers."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    large, wanted = rng.random() < 0.4, rng.randint(1, 6)
    have = rng.randint(12, 98) * 10 if large else rng.randint(12, 60)
    told = [f"{name} has {have} {thing}."]
    kinds = rng.sample(range(7), 7)
    while kinds and len(told) <= wanted:
        done = step(rng, name, thing, kinds.pop(), have)
        if done is not None:
            told.append(done[0])
            have = done[1]
    text = " ".join([*told, f"How many {thing} does {name} have now?"])
    return text, -1.6 + 0.6 * len(told) + 0.4 * large


def knowledge(rng: random.Random) -> Question:
    """A fact; the difficulty is its place in a list that begins with what everybody knows."""
    template = rng.choice(sorted(FACTS))
    facts = FACTS[template]
    place = rng.randrange(len(facts))
    return template.format(facts[place]), -1.5 + 4.0 * place / (len(facts) - 1)


def code(rng: random.Random) -> Question:
    """The value that a small function returns; loops and conditions make it harder."""
    values = [rng.randint(1, 9) for _ in range(rng.randint(3, 9))]
    word = "".join(rng.choice("abcdeilnorst") for _ in range(rng.randint(4, 10)))
    a, b = rng.randint(2, 5), rng.randint(2, 7)
    bodies = [
        (f"def f(xs):\n    return len(xs) + {a}", values, -1.2),
        (f"def f(s):\n    return s.upper()[:{a}]", word, -0.9),
        (f"def f(xs):\n    return [x * {a} for x in xs if x > {b}]", values, 0.0),
        (f"def f(s):\n    return s[::-1].replace('{word[0]}', '{'xyz'[a % 3]}')", word, 0.6),
        (
            f"def f(xs):\n    t = 0\n    for i, x in enumerate(xs):\n        if i % {a} == 0:\n"
            f"            t += x * {b}\n        else:\n            t -= i\n    return t",
            values,
            1.1,
        ),
        (
            "def f(xs):\n    out = []\n    while xs:\n        x = xs.pop(0)\n"
            f"        if x % {a}:\n            xs = xs[{a}:]\n        out.append(x + len(xs))\n"
            "    return out",
            values,
            2.0,
        ),
        (
            f"def f(s):\n    d = {{}}\n    for c in s:\n        d[c] = d.get(c, {b}) + ord(c) % {a}"
            "\n    return sorted(d.values())",
            word,
            2.3,
        ),
    ]
    body, argument, difficulty = rng.choice(bodies)
    length = len(argument) / 10
    return f"What does f({argument!r}) return?\n\n{body}", difficulty + length - 0.5


def competition(rng: random.Random) -> Question:
    """Competition-like mathematics: the topic sets most of the difficulty."""
    a, b, c = rng.randint(2, 12), rng.randint(3, 19), rng.randint(5, 30)
    n = rng.randint(40, 2000)
    topics = [
        (f"Solve for x: {a}x + {b} = {a * c + b}.", -1.6),
        (f"What is the sum of the roots of x^2 - {a + b}x + {a * b} = 0?", -0.6),
        (f"How many positive divisors does {n} have?", -0.1),
        (f"What is the remainder when {a}^{c} is divided by {b}?", 0.6),
        (f"How many integers from 1 to {n} are divisible by {a} or by {b}?", 0.7),
        (f"Find the area of a triangle with sides {b}, {b + 1} and {b + a if a < b else b}.", 0.9),
        (f"In how many ways can {a} equal prizes be shared among {b} pupils?", 1.1),
        (f"{a + 1} fair dice are thrown. How likely is it that at least two show the same?", 1.3),
        (f"Find the coefficient of x^{a} in (1 + 2x)^{c} (1 - x)^{b}.", 2.0),
        (f"How many subsets of {{1, ..., {c}}} have no two elements that differ by {a}?", 2.8),
        (f"Find the sum of all n below {n} for which n^2 + {a}n + {b} is a perfect square.", 2.9),
        (f"Let z^{a + 1} = 1, z != 1. Evaluate the sum of 1/(1 - z^k) over k = 1..{a}.", 3.0),
    ]
    return rng.choice(topics)


def output(rng: random.Random, model: str, task: str, difficulty: float) -> dict[str, object]:
    """One model's drawn outcome."""
    ability, length, _, _ = MODELS[model]
    margin = ability[list(LENGTHS).index(task)] - difficulty + rng.gauss(0, OWN)
    correct = rng.random() < 1 / (1 + math.exp(-1.8 * margin))
    tokens = LENGTHS[task] * length * math.exp(0.25 * difficulty + rng.gauss(0, 0.3))
    return {
        "model_name": model,
        "correctness": correct,
        "output_token_length": max(5, round(tokens)),
    }


def split_of(place: int, count: int) -> str:
    if place < SPLITS["test"] * count:
        return "test"
    return "val" if place < (SPLITS["test"] + SPLITS["val"]) * count else "train"


def task_rows(task: str, make: Maker, rng: random.Random) -> list[dict[str, object]]:
    """The rows of one task, all texts different."""
    questions: dict[str, float] = {}
    while len(questions) < ROWS_PER_TASK:
        text, difficulty = make(rng)
        questions.setdefault(text, difficulty)
    places = list(range(ROWS_PER_TASK))
    rng.shuffle(places)
    rows: list[dict[str, object]] = []
    for number, (text, visible) in enumerate(questions.items()):
        difficulty = visible + rng.gauss(0, HIDDEN)
        rows.append(
            {
                "query_id": f"synthetic/{task}-{number:03d}",
                "task": task,
                "query": text,
                "input_token_length": PROMPT_TOKENS + len(text) // 4,
                "outputs": [output(rng, model, task, difficulty) for model in MODELS],
                "split": split_of(places[number], ROWS_PER_TASK),
            }
        )
    return rows


def demo_lines() -> str:
    """The data set, one JSON object a line."""
    rng = random.Random(SEED)
    makers = {
        "arithmetic": arithmetic,
        "knowledge": knowledge,
        "code": code,
        "competition": competition,
    }
    rows = [row for task, make in makers.items() for row in task_rows(task, make, rng)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def demo_prices() -> str:
    """The prices, in the shape that `--prices` reads."""
    prices = {name: {"input": m[2], "output": m[3]} for name, m in MODELS.items()}
    document = {
        "unit": "US dollars per 1,000,000 tokens",
        "as_of": "synthetic: invented prices of invented models, for the demo only",
        "models": prices,
    }
    return json.dumps(document, indent=2) + "\n"


def write_vectors() -> None:
    """The questions as the default embedder reads them: the demo shows something at once."""
    import numpy as np

    from aios_eccos.history.open import open_embedder
    from aios_eccos.lab.dataset import load_dataset

    dataset, embedder = load_dataset([DATA / "demo.jsonl.gz"]), open_embedder()
    vectors = embedder.embed([record.text for record in dataset.records]).astype(np.float16)
    facts = {"identity": np.array(embedder.identity), "data": np.array(dataset.hash)}
    np.savez(DATA / "demo_vectors.npz", vectors=vectors, **facts)


def main() -> None:
    (DATA / "demo.jsonl.gz").write_bytes(gzip.compress(demo_lines().encode(), mtime=0))
    (DATA / "demo_prices.json").write_text(demo_prices(), encoding="utf-8")
    if "--embed" in sys.argv[1:]:
        write_vectors()


if __name__ == "__main__":
    main()
