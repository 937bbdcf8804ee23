"""Prices: three states, and no ignorance that looks free."""

import json
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from aios_eccos.forecast import pricing
from aios_eccos.forecast.pricing import price_table, size_of, with_facts
from aios_eccos.values import Model

CHEAP = Model("cheap", input_price=1e-7, output_price=2e-7)
DEAR = Model("dear", input_price=3e-6, output_price=1e-5)
FREE = Model("free", input_price=0.0, output_price=0.0)
UNKNOWN = Model("mystery-70b")


def test_three_states():
    assert [m.price_state for m in (CHEAP, FREE, UNKNOWN)] == ["priced", "free", "unknown"]
    assert Model("half", input_price=1e-6).price_state == "unknown"


def test_an_unknown_price_counts_as_the_highest_known_one():
    prices = price_table([CHEAP, UNKNOWN, DEAR, FREE])
    cost = prices.cost(np.array([100.0]), np.full((1, 4), 10.0))
    assert prices.money
    assert cost[0, 1] == cost[0, 2] == pytest.approx(100 * 3e-6 + 10 * 1e-5)
    assert cost[0, 3] == 0.0


def test_no_known_price_orders_by_size_and_says_that_it_is_not_money():
    prices = price_table([Model("a:8b"), Model("b", size_b=3.0), Model("c"), FREE])
    cost = prices.cost(np.array([100.0]), np.full((1, 4), 10.0))
    assert not prices.money
    assert cost[0].tolist() == [80.0, 30.0, 10.0, 0.0]


def test_select_reorders():
    prices = price_table([CHEAP, UNKNOWN, DEAR]).select(["dear", "cheap"])
    assert prices.models == ("dear", "cheap")
    assert prices.output.tolist() == [1e-5, 2e-7]


@pytest.mark.parametrize(
    ("name", "size"),
    [("llama3:8b", 8), ("qwen2-72b-instruct", 72), ("mixtral-8x7b", 56), ("qwen2.5-0.5b", 0.5),
     ("smollm2-135m", 0.135), ("gemma-3-270m-it", 0.27), ("smollm:360m", 0.36),
     ("pythia-70m", 0.07), ("qwen2.5-7b-instruct-1m", 7), ("llama-4-10m", None),
     ("qwen-turbo-1m", None), ("gpt-4o", None), ("phi-3b2", None)],
)  # fmt: skip
def test_sizes_read_from_names(name, size):
    assert size_of(Model(name)) == (size or 1.0)


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package named litellm that must never be imported, with a price file as LiteLLM's."""
    table = {
        "gpt-x": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
                  "max_input_tokens": 8000, "supports_function_calling": True,
                  "supports_vision": False},
        "ollama/llama3": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0,
                          "max_tokens": "a remark"},
    }  # fmt: skip
    (tmp_path / "model_prices_and_context_window_backup.json").write_text(json.dumps(table))
    spec = ModuleSpec("litellm", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    real = pricing.importlib.util.find_spec
    monkeypatch.setattr(
        pricing.importlib.util, "find_spec", lambda name: spec if name == "litellm" else real(name)
    )
    pricing.litellm_table.cache_clear()
    yield tmp_path
    pricing.litellm_table.cache_clear()


def test_litellm_is_read_as_data(packaged):
    facts = with_facts(Model("openai/gpt-x"))
    assert (facts.input_price, facts.output_price, facts.context_window) == (1e-6, 2e-6, 8000)
    assert facts.abilities == frozenset({"tools", "json"}), "of JSON the table says nothing"
    assert with_facts(UNKNOWN) == UNKNOWN


def test_a_zero_in_the_file_is_no_declaration(packaged):
    facts = with_facts(Model("llama3"), backend="ollama")
    assert facts.input_price is None and facts.context_window is None and facts.abilities is None


def test_configuration_wins_over_the_file(packaged):
    declared = with_facts(Model("gpt-x", input_price=5e-6, output_price=6e-6, context_window=10))
    assert (declared.input_price, declared.context_window) == (5e-6, 10)
    assert with_facts(Model("gpt-x")).output_price == 2e-6


def test_a_damaged_file_means_unknown(packaged, caplog):
    (packaged / "model_prices_and_context_window_backup.json").write_text("{")
    pricing.litellm_table.cache_clear()
    assert with_facts(Model("gpt-x")) == Model("gpt-x")
    assert "cannot be read" in caplog.text


def test_no_litellm_no_facts(monkeypatch):
    monkeypatch.setattr(pricing.importlib.util, "find_spec", lambda name: None)
    pricing.litellm_table.cache_clear()
    assert with_facts(Model("gpt-x")) == Model("gpt-x")
    pricing.litellm_table.cache_clear()
