"""What a real server of llama.cpp said, good answers and errors, is read as what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from real_bodies import bodies, good

from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import of_status
from aios_eccos.providers.waits import LOADING_S


def test_every_answer_has_its_text_its_end_and_its_tokens() -> None:
    for body in good():
        found, choice = read(body), body["choices"][0]
        assert found.text == choice["message"]["content"]
        assert found.truncated is (choice["finish_reason"] == "length")
        assert found.input_tokens == body["usage"]["prompt_tokens"]
        assert found.output_tokens == body["usage"]["completion_tokens"]


def test_a_prefix_that_the_server_holds_counts_as_cached() -> None:
    for _, body in bodies("two tools are offered"):
        assert read(body).usage.cached == body["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_server_that_loads_its_model_is_given_the_time_for_it() -> None:
    ((_, body),) = bodies("while it loads")
    failure = of_status(503, json.dumps(body), body=body)
    assert failure.retryable and failure.rests and failure.refused is None
    assert failure.retry_after_s == LOADING_S


@pytest.mark.parametrize(
    "body",
    [
        # Triton, and KServe before it
        {"error": "Request for unknown model: 'mini' is not ready"},
        {"error": "Model mini is currently loading"},  # Hugging Face, without its estimate
        {"error": {"message": "The model is still being loaded, try again"}},
        {"detail": "loading the model"},
    ],
)
def test_other_servers_that_load_are_given_it_too(body: dict[str, Any]) -> None:
    assert of_status(503, json.dumps(body), body=body).retry_after_s == LOADING_S


def test_how_long_the_server_itself_says_counts() -> None:
    # huggingface.co/docs/api-inference: the estimate stands in the body
    body = {"error": "Model mini is currently loading", "estimated_time": 20.0}
    assert of_status(503, json.dumps(body), body=body).retry_after_s == 20.0
    headers = {"Retry-After": "3"}
    assert of_status(503, json.dumps(body), headers, body).retry_after_s == 3.0


@pytest.mark.parametrize(
    "text", ["Service Unavailable", "Model is overloaded", "no model is loaded under this name"]
)
def test_a_server_that_is_ill_is_not_taken_for_one_that_loads(text: str) -> None:
    assert of_status(503, text).retry_after_s is None


def test_a_prompt_beyond_the_window_names_the_window() -> None:
    ((_, body),) = bodies("a prompt beyond the window")
    failure = of_status(400, json.dumps(body), body=body)
    assert (failure.refused, failure.window) == ("context", 4096)


def test_figures_that_are_switched_off_are_no_illness_of_the_server() -> None:
    ((_, body),) = bodies("its metrics are off")
    assert not of_status(501, json.dumps(body), body=body).rests
