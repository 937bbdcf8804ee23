"""How long a server asks to wait, in every form in which servers say it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from aios_eccos.providers.wire import mapping

#: Longest wait that is believed, seconds: a longer one would close the model for good.
WAIT_MOST_S = 120.0
#: A number as large is a moment since 1970 in seconds, or in milliseconds.
_SECONDS_SINCE_1970, _MILLISECONDS_SINCE_1970 = 1e9, 1e12
#: A server that reads its model seldom says for how long, and takes longer than a moment.
LOADING_S, LOADING_CHARS = 10.0, 1000
#: llama.cpp; Hugging Face; Triton and KServe.
_LOADING = re.compile(
    r"\bloading (?:the )?model\b|\bmodel\b[^.\n]{0,80}\b(?:is|are)"
    r" (?:(?:currently |still )?(?:loading|being loaded)|not (?:yet )?ready)\b",
    re.IGNORECASE,
)
#: Longest text of a wait, characters; dates have 29.
LONGEST = 100
#: A number and its unit, in a duration such as `1m30.5s`.
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|[smhd])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Headers in which limits say when they begin anew, and those that say what is left of them:
#: OpenAI's, Groq's and Azure's by kind, OpenRouter's and the IETF's draft, Anthropic's.
_RESETS = (
    ("x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
    ("x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"),
    ("x-ratelimit-reset", "x-ratelimit-remaining"),
    ("ratelimit-reset", "ratelimit-remaining"),
    ("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-requests-remaining"),
    ("anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-tokens-remaining"),
)


def asked_wait(headers: object, body: object = None, *, limited: bool = True) -> float | None:
    """Seconds that a server asks to wait, at most `WAIT_MOST_S`; None where it does not say.

    `body` is its error object, in which Google and OpenRouter say it. `limited`: a limit refused
    the call, so that the limits' own headers tell.
    """
    found = mapping(headers) or dict(getattr(headers, "items", tuple)())
    named = {str(name).lower(): str(value) for name, value in found.items()}
    named = _in_body(body) | named
    now = _instant(named.get("date", "")) or time.time()
    waits = [_seconds(named.get("retry-after", ""), now)]
    if "retry-after-ms" in named:
        waits.insert(0, _seconds(f"{named['retry-after-ms'].strip()}ms", now))
    if limited:
        spent = [named.get(reset, "") for reset, left in _RESETS if named.get(left, "0") == "0"]
        # A limit that has begun anew already is not what refused the call.
        waits.append(max((s for text in spent if (s := _seconds(text, now))), default=None))
    wait = next((wait for wait in waits if wait is not None), None)
    return None if wait is None else min(wait, WAIT_MOST_S)


def _seconds(text: str, now: float) -> float | None:
    """Of a number, a duration such as `6m0s`, a date, or a moment since 1970; not negative."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    try:
        number = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if parts and "".join(map("".join, parts)) == text:
            number = sum(float(value) * _UNITS[unit] for value, unit in parts)
        else:
            at = _instant(text)
            return None if at is None else max(at - now, 0.0)
    if number >= _SECONDS_SINCE_1970:
        number = number / (1000 if number >= _MILLISECONDS_SINCE_1970 else 1) - now
        return max(number, 0.0) if math.isfinite(number) else None
    return number if number >= 0 else None


def _instant(text: str) -> float | None:
    """A date of HTTP's or of RFC 3339, in seconds since 1970."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = parse(text.replace("Z", "+00:00") if "T" in text else text)
            return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def loading_wait(text: str) -> float | None:
    """Seconds to wait for a server whose words say that it reads its model; None: they do not."""
    return LOADING_S if _LOADING.search(text[:LOADING_CHARS]) else None


def _in_body(body: object) -> dict[str, str]:
    """Google's RetryInfo, Hugging Face's estimate and the headers that OpenRouter hands on."""
    error = mapping(mapping(body).get("error")) or mapping(body)
    details = error.get("details")
    listed = details if isinstance(details, list) else []
    delays = (mapping(detail).get("retryDelay") for detail in listed)
    estimated = mapping(body).get("estimated_time")
    named = {"retry-after": str(next((delay for delay in delays if delay), estimated or ""))}
    passed_on: Mapping[str, Any] = mapping(mapping(error.get("metadata")).get("headers"))
    return named | {str(name).lower(): str(value) for name, value in passed_on.items()}
