import pytest
from evaluate_world import CircleEmbedder, rows, write, write_prices

from aios_eccos.lab.dataset import load_dataset, load_prices, pool
from aios_eccos.lab.replay import Plan, problem_of


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
def make_problem(dataset, models):
    def make(split=0, kind="retrieval", folder=None, **plan):
        return problem_of(
            dataset.records,
            models,
            CircleEmbedder(),
            Plan(**{"limits": {}, **plan}),
            split=split,
            kind=kind,
            data_hash=dataset.hash,
            folder=folder,
        )

    return make


@pytest.fixture(scope="session")
def problem(make_problem):
    return make_problem()
