"""Splits: the same everywhere, by task, and never a text on both sides. A file of prices."""

import pytest

from aios_eccos.errors import DataError
from aios_eccos.lab.dataset import load_prices, split_labels


def rows(n, task="t"):
    return [f"{task}{i}" for i in range(n)], [task] * n, [f"text {task} {i}" for i in range(n)]


def test_shares_hold_within_each_task():
    ids, tasks, texts = rows(100)
    more = rows(20, "u")
    labels = split_labels(
        ids + more[0], tasks + more[1], texts + more[2], [""] * 120, number=1, seed=0
    )
    assert [labels[:100].count(x) for x in ("test", "val", "train")] == [30, 10, 60]
    assert [labels[100:].count(x) for x in ("test", "val", "train")] == [6, 2, 12]


def test_splits_differ_by_number_and_seed_and_repeat():
    ids, tasks, texts = rows(50)
    own = [""] * 50
    one = split_labels(ids, tasks, texts, own, number=1)
    assert one == split_labels(ids, tasks, texts, own, number=1)
    assert one != split_labels(ids, tasks, texts, own, number=2)
    assert one != split_labels(ids, tasks, texts, own, number=1, seed=1)
    back = split_labels(ids[::-1], tasks, texts[::-1], own, number=1)
    assert back[::-1] == one


def test_number_zero_is_the_files_own():
    ids, tasks, texts = rows(3)
    assert split_labels(ids, tasks, texts, ["test", "", "val"]) == ("test", "train", "val")


def test_equal_texts_stand_on_one_side():
    ids, tasks, _ = rows(60)
    texts = [f"text {i // 2}" for i in range(60)]
    for number in range(4):
        own = ["test" if i % 2 else "train" for i in range(60)]
        labels = split_labels(ids, tasks, texts, own, number=number)
        assert all(labels[i] == labels[i + 1] for i in range(0, 60, 2))


def test_rows_without_text_are_not_twins():
    assert split_labels(["a", "b"], ["t", "t"], ["", ""], ["test", "train"]) == ("test", "train")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="split number is -1"):
        split_labels([], [], [], [], number=-1)
    with pytest.raises(ValueError):
        split_labels(["a"], ["t"], ["x"], [], number=0)


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", '"x"', "null", "[]", "1" + 400 * "0"])
def test_a_price_that_is_none_is_named_with_its_file(tmp_path, price):
    file = tmp_path / "prices.json"
    file.write_text(f'{{"models": {{"m": {{"input": 1, "output": {price}}}}}}}')
    with pytest.raises(DataError, match=r"prices\.json: (wanted|m: prices)"):
        load_prices(file)
