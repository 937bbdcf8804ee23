"""What a real server of llama.cpp said, good answers and errors, is read as what it is."""

from __future__ import annotations

import json

from real_bodies import bodies, good

from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import of_status


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


def test_a_server_that_loads_its_model_is_busy_and_rests() -> None:
    ((_, body),) = bodies("while it loads")
    failure = of_status(503, json.dumps(body), body=body)
    assert failure.retryable and failure.rests and failure.refused is None


def test_a_prompt_beyond_the_window_names_the_window() -> None:
    ((_, body),) = bodies("a prompt beyond the window")
    failure = of_status(400, json.dumps(body), body=body)
    assert (failure.refused, failure.window) == ("context", 4096)


def test_figures_that_are_switched_off_are_no_illness_of_the_server() -> None:
    ((_, body),) = bodies("its metrics are off")
    assert not of_status(501, json.dumps(body), body=body).rests
