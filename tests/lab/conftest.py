from dataclasses import replace

import pytest
from evaluate_world import CircleEmbedder, rows, write, write_prices

from aios_eccos.lab.dataset import load_dataset, load_prices, pool, recorded
from aios_eccos.lab.problem import Arrival, problem_of


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    return write(folder / "world.jsonl.gz", rows()), write_prices(folder / "prices.json")


@pytest.fixture(scope="session")
def dataset(files):
    return load_dataset([files[0]])


@pytest.fixture(scope="session")
def models(files, dataset):
    return pool(dataset.models, load_prices(files[1]), {}, 32)


@pytest.fixture(scope="session")
def circle(dataset, models):
    """The world's records, embedded."""
    return recorded(dataset, models, CircleEmbedder())


@pytest.fixture(scope="session")
def make_problem(circle):
    def make(split=0, kind="retrieval", folder=None, **arrival):
        return problem_of(replace(circle, folder=folder), split, kind, Arrival(**arrival))

    return make


@pytest.fixture(scope="session")
def problem(make_problem):
    return make_problem()
