"""How long servers ask to wait, in every form."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from typing import Any

import pytest

from aios_eccos.providers.waits import WAIT_MOST_S, asked_wait

NOW = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
DATE = formatdate(NOW.timestamp(), usegmt=True)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


#: Headers beside `Date`, and the seconds to wait.
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({"Retry-After": "7"}, 7),
    ({"retry-after": "0.5"}, 0.5),
    ({"Retry-After": formatdate(later(90).timestamp(), usegmt=True)}, 90),
    ({"Retry-After": "Wed, 01 Jul 2026 12:00:30 +0000"}, 30),
    ({"Retry-After": "Wednesday, 01-Jul-26 12:00:30 GMT"}, 30),  # RFC 850
    ({"Retry-After": later(30).isoformat()}, 30),
    ({"Retry-After": formatdate(later(-90).timestamp(), usegmt=True)}, 0),
    ({"Retry-After": "9999"}, WAIT_MOST_S),
    ({"Retry-After": "1e300"}, WAIT_MOST_S),
    ({"Retry-After": "30s"}, 30),
    ({"Retry-After": "-1"}, None),
    ({"Retry-After": "inf"}, None),
    ({"Retry-After": "nan"}, None),
    ({"Retry-After": "soon"}, None),
    ({"Retry-After": ""}, None),
    ({}, None),
    # learn.microsoft.com/azure/ai-services/openai/how-to/quota
    ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
    ({"retry-after-ms": "x", "retry-after": "2"}, 2),
    # platform.openai.com/docs/guides/rate-limits
    ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, WAIT_MOST_S),
    ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "1s"}, 1),
    (
        {
            "x-ratelimit-reset-requests": "60s",
            "x-ratelimit-remaining-requests": "99",
            "x-ratelimit-reset-tokens": "7.66s",
            "x-ratelimit-remaining-tokens": "0",
        },
        7.66,
    ),
    # openrouter.ai: milliseconds since 1970; GitHub: seconds since 1970
    ({"X-RateLimit-Reset": f"{later(40).timestamp() * 1000:.0f}"}, 40),
    ({"X-RateLimit-Reset": f"{later(40).timestamp():.0f}"}, 40),
    ({"x-ratelimit-reset": f"{later(-40).timestamp():.0f}"}, None),
    ({"ratelimit-reset": "50", "ratelimit-remaining": "0"}, 50),
    # docs.anthropic.com/en/api/rate-limits
    (
        {
            "anthropic-ratelimit-tokens-reset": "2026-07-01T12:00:20Z",
            "anthropic-ratelimit-tokens-remaining": "0",
        },
        20,
    ),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS, ids=[str(w[0]) for w in WAITS])
def test_a_wait_is_read_in_every_form_up_to_a_limit(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_wait({"Date": DATE, **headers}) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    "body",
    [
        # cloud.google.com/apis/design/errors: RetryInfo
        {"error": {"details": [{"@type": "x"}, {"@type": "RetryInfo", "retryDelay": "30s"}]}},
        {"metadata": {"headers": {"X-RateLimit-Reset": f"{later(30).timestamp() * 1000:.0f}"}}},
    ],
)
def test_a_wait_in_the_error_itself_is_read(body: Any) -> None:
    assert asked_wait({"Date": DATE}, body) == pytest.approx(30, abs=0.01)
    assert asked_wait({"Date": DATE, "Retry-After": "5"}, body) == 5


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3s",
        "..s",
        ".",
        "1..5m",
        "\u0663s",
        "s",
        "1" * 70_000,
        "1s" * 70_000,
        "-5s",
        "1 s",
    ],
    ids=lambda text: text[:10],
)
def test_a_wait_that_is_none_asks_for_none(text: str) -> None:
    for name in ("Retry-After", "retry-after-ms", "x-ratelimit-reset"):
        assert asked_wait({name: text}) is None
    assert asked_wait({}, {"estimated_time": text}) is None


@pytest.mark.parametrize("body", [None, [], "x", {"error": "x"}, {"error": {"details": "x"}}])
def test_an_error_that_says_nothing_of_it_asks_for_none(body: Any) -> None:
    assert asked_wait({}, body) is None


def test_a_limits_own_header_tells_only_where_a_limit_refused() -> None:
    assert asked_wait({"x-ratelimit-reset-requests": "30s"}, limited=False) is None


def test_without_a_date_of_its_own_the_servers_clock_is_taken_for_ours() -> None:
    at = formatdate(time.time() + 90, usegmt=True)
    assert asked_wait({"Retry-After": at}) == pytest.approx(90, abs=2)
