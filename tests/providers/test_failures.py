"""What statuses and exceptions mean: for the call, for its model, and for the agent."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from aios_eccos.providers.failures import (
    EXCEPTIONS,
    NO_CONNECTION,
    STATUSES,
    TIMEOUT,
    StatusError,
    failure_of,
    meaning,
    names_of,
    of_status,
)

#: Statuses of a server that is busy or ill: tried again, and its model rests.
#: 520 to 529 are Cloudflare's and Anthropic's, 598 and 599 those of proxies, 424 is TGI's.
BUSY = [408, 424, 425, 429, 500, 502, 503, 504, 507, 508, 509, *range(520, 531), 598, 599]


@pytest.mark.parametrize("status", BUSY)
def test_a_server_that_is_busy_or_ill_is_asked_again_and_its_model_rests(status: int) -> None:
    failure = of_status(status)
    assert (failure.retryable, failure.rests, failure.status_code) == (True, True, status)
    assert failure.reason == str(status)


@pytest.mark.parametrize(
    ("status", "retryable", "elsewhere", "rests"),
    [
        (400, False, False, False),
        (422, False, False, False),
        (401, False, True, True),
        (402, False, True, True),
        (403, False, True, False),
        (404, False, True, False),
        (405, False, True, False),
        (413, False, True, False),
        (415, False, True, False),
        (501, False, True, False),
        (409, True, False, False),
        (499, True, False, False),
        (302, True, False, False),
        (204, True, False, False),
        (700, True, False, False),
    ],
)
def test_what_other_statuses_mean(
    status: int, retryable: bool, elsewhere: bool, rests: bool
) -> None:
    failure = of_status(status)
    assert (failure.retryable, failure.elsewhere, failure.rests) == (retryable, elsewhere, rests)
    assert 400 <= failure.status_code < 600


def like(name: str, *bases: type, **fields: Any) -> Exception:
    """An exception of a library that need not be there."""
    library, _, kind = name.rpartition(".")
    made: Exception = type(kind, bases or (Exception,), {"__module__": library, **fields})("x")
    return made


def litellms(kind: str, status: int) -> Exception:
    api = type(like("openai.APIError"))
    return like(f"litellm.exceptions.{kind}", api, status_code=status)


def raised_from(*errors: Exception) -> Exception:
    """The first, as if each had been raised while the next was handled."""
    for outer, inner in itertools.pairwise(errors):
        outer.__context__ = inner
    return errors[0]


def answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://x")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status))


@pytest.mark.parametrize(
    ("errors", "status", "rests"),
    [
        ((httpx.ReadTimeout("x"),), 504, True),
        ((httpx.PoolTimeout("x"),), 504, True),
        ((httpx.ConnectTimeout("x"),), 503, True),
        ((httpx.ConnectError("x"),), 503, True),
        ((httpx.RemoteProtocolError("x"),), 503, True),
        ((httpx.ProxyError("x"),), 503, True),
        ((httpx.DecodingError("x"),), 502, False),
        ((httpx.UnsupportedProtocol("x"),), 500, False),
        ((answered(529),), 529, True),
        ((like("openai.APITimeoutError"), httpx.ReadTimeout("x")), 504, True),
        ((like("openai.APIStatusError", status_code=401), httpx.ConnectError("x")), 401, True),
        ((like("requests.exceptions.Timeout"),), 504, True),
        # LiteLLM wraps what happened into a status of its own.
        ((litellms("InternalServerError", 500), httpx.RemoteProtocolError("x")), 503, True),
        ((litellms("APIConnectionError", 500), like("json.decoder.JSONDecodeError")), 502, False),
        ((litellms("Timeout", 408), like("openai.APITimeoutError")), 504, True),
        ((litellms("Timeout", 408),), 504, True),
        ((litellms("APIConnectionError", 500),), 503, True),
        ((litellms("RateLimitError", 429),), 429, True),
        ((litellms("InternalServerError", 500), answered(500)), 500, True),
        ((litellms("BadRequestError", 400), answered(400)), 400, False),
        ((litellms("ServiceUnavailableError", 503), answered(404)), 404, False),
        ((KeyError("our own"),), 500, False),
        ((SystemExit(),), 500, False),
    ],
)
def test_what_clients_raise_has_a_true_status(
    errors: tuple[Exception, ...], status: int, rests: bool
) -> None:
    failure = failure_of(raised_from(*errors))
    assert (failure.status_code, failure.rests) == (status, rests)


def test_what_litellm_refuses_without_asking_a_server_another_may_serve() -> None:
    failure = failure_of(litellms("BadRequestError", 400))
    assert (failure.elsewhere, failure.rests, failure.retryable) == (True, False, False)


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("ContextWindowExceededError", "context"),
        ("ContentPolicyViolationError", "filter"),
        ("UnsupportedParamsError", "other"),
    ],
)
def test_litellms_classes_tell_a_refusal_whatever_the_words(kind: str, refused: str) -> None:
    failure = failure_of(raised_from(litellms(kind, 400), answered(400)))
    assert (failure.refused, failure.elsewhere, failure.status_code) == (refused, True, 400)


def test_an_earlier_requests_answer_is_not_this_ones() -> None:
    assert failure_of(raised_from(httpx.ReadTimeout("x"), answered(400))) == TIMEOUT


def kinds(base: type) -> Iterator[type]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def carries_a_status(kind: type) -> bool:
    given = "status_code" in inspect.signature(kind.__init__).parameters
    return given or not {"openai.APIStatusError", "httpx.HTTPStatusError"}.isdisjoint(names(kind))


def names(kind: type) -> list[str]:
    return names_of(kind.__new__(kind))


#: Raised where OpenAI calls us.
OTHERS = {"InvalidWebhookSignatureError"}


@pytest.mark.parametrize("library", ["httpx", "openai", "litellm"])
def test_every_exception_of_the_clients_is_in_the_table(library: str) -> None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    module = pytest.importorskip(library)
    if library == "litellm":
        module = module.exceptions
    raised = {
        kind
        for value in list(vars(module).values())
        if isinstance(value, type) and issubclass(value, Exception)
        for kind in kinds(value)
        if kind.__module__.split(".")[0] == library and not issubclass(kind, Warning)
    }
    assert raised
    unknown = {k.__name__ for k in raised if meaning(names(k)) is None and not carries_a_status(k)}
    assert unknown - OTHERS == set()


def test_the_table_has_no_row_that_a_library_no_longer_raises() -> None:
    libraries = {name.split(".")[0] for name in EXCEPTIONS}
    assert libraries == {
        "httpx",
        "openai",
        "litellm",
        "requests",
        "json",
        "pydantic_core",
        "builtins",
    }
    gone = [n for n in EXCEPTIONS if n.startswith("httpx.") and not hasattr(httpx, n[6:])]
    assert gone == []
    assert NO_CONNECTION in EXCEPTIONS.values()
    assert 400 not in STATUSES


def test_a_wait_is_asked_only_by_a_server_that_is_asked_again() -> None:
    headers = {"Retry-After": "7"}
    assert failure_of(StatusError(429, "", headers)).retry_after_s == 7
    assert failure_of(StatusError(503, "", headers)).retry_after_s == 7
    assert failure_of(StatusError(401, "", headers)).retry_after_s is None
