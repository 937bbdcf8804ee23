"""What a status or an exception of a model's client means: one table for all who ask models.

LiteLLM wraps what happened into statuses of its own, so the whole chain of causes is looked at.
Classes are known by library and name, as none of the libraries need be there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aios_eccos.providers.refusals import ANY, LOOKED_AT, refused, window_in
from aios_eccos.providers.usage import Usage, whole
from aios_eccos.providers.waits import asked_wait, loading_wait
from aios_eccos.providers.wire import mapping
from aios_eccos.records import Signals
from aios_eccos.values import Failure, Refused

NOTHING_USED, NOTHING_SEEN = Usage(), Signals()
#: How many exceptions are looked through, each raised from the next.
MOST_WRAPPED = 12

TIMEOUT = Failure("timeout", 504)
NO_CONNECTION = Failure("no connection", 503)
INVALID = Failure("invalid answer", 502, rests=False)
MALFORMED = Failure("malformed call", 400, retryable=False, rests=False)
#: The operator's key, credit, address or version of a library is refused, and will go on to be.
REFUSES_US = Failure("refused", 401, retryable=False, elsewhere=True)
#: The key, the model's name or, with some providers, this call.
REFUSES_US_PERHAPS = replace(REFUSES_US, rests=False)
NOT_SET_UP = Failure("not set up", 500, retryable=False, rests=False, elsewhere=True)
FILTERED = replace(NOT_SET_UP, reason="content filter", status_code=400, refused="filter")
#: The server is busy or ill.
BUSY = Failure("busy", 503)
AGAIN = replace(BUSY, rests=False)

#: What a server's status means, apart from its words. Every other status from 500 on is `BUSY`;
#: every other one from 400 on is the call's own fault, `MALFORMED`.
STATUSES: Mapping[int, Failure] = {
    **dict.fromkeys((401, 402), REFUSES_US),
    **dict.fromkeys((403, 404, 405, 406, 415, 501), REFUSES_US_PERHAPS),
    **dict.fromkeys((408, 424, 425, 429), BUSY),
    **dict.fromkeys((409, 499), AGAIN),
    413: replace(REFUSES_US_PERHAPS, refused="context"),
}
#: Statuses whose words may tell a refusal of this model's alone, and which refusals.
REFUSALS: Mapping[int, frozenset[Refused]] = {
    **dict.fromkeys((400, 404, 405, 413, 415, 422, 501), ANY),
    403: frozenset(("filter",)),
    500: frozenset(("context", "tools", "vision")),  # Ollama and llama.cpp
}
#: Reason of a refusal, for the operator.
_REASONS: Mapping[Refused, str] = {
    "context": "context too long",
    "output": "answer too long",
    "tools": "no tools",
    "json": "no JSON mode",
    "vision": "no images",
    "filter": "content filter",
    "other": "not supported",
}

#: What an exception means, by its library and class; a class that is not listed counts as its
#: base. Exceptions that carry a server's status are not listed: the status tells.
EXCEPTIONS: Mapping[str, Failure] = {
    f"{library}.{name}": failure
    for library, names, failure in (
        ("httpx", "TimeoutException", TIMEOUT),
        ("httpx", "ConnectTimeout HTTPError", NO_CONNECTION),
        ("httpx", "UnsupportedProtocol LocalProtocolError InvalidURL", NOT_SET_UP),
        ("httpx", "DecodingError TooManyRedirects CookieConflict StreamError", INVALID),
        ("openai", "APITimeoutError", TIMEOUT),
        ("openai", "APIConnectionError", NO_CONNECTION),
        ("openai", "APIResponseValidationError APIError", INVALID),
        ("openai", "OpenAIError", NOT_SET_UP),
        ("litellm", "Timeout", TIMEOUT),
        ("litellm", "APIConnectionError", NO_CONNECTION),
        ("litellm", "APIResponseValidationError", INVALID),
        ("litellm", "OpenAIError ModelNotMappedError", NOT_SET_UP),
        ("litellm", "GuardrailRaisedException BlockedPiiEntityError", FILTERED),
        ("litellm", "SensitiveDataRouteException ModifyResponseException", FILTERED),
        ("litellm", "BudgetExceededError", REFUSES_US),
        ("requests", "Timeout", TIMEOUT),
        ("requests", "RequestException", NO_CONNECTION),
        ("json", "JSONDecodeError", INVALID),
        ("builtins", "RecursionError", INVALID),  # an answer that is nested past all use
        ("pydantic_core", "ValidationError", INVALID),
    )
    for name in names.split()
}
#: LiteLLM's classes that tell a refusal whatever the words.
REFUSING: Mapping[str, Refused] = {
    "litellm.ContextWindowExceededError": "context",
    "litellm.ContentPolicyViolationError": "filter",
    "litellm.RejectedRequestError": "filter",
    "litellm.UnsupportedParamsError": "other",
    "litellm.ImageFetchError": "vision",
}


class Broken(Exception):
    """An answer with nothing to hand on: what it means, cost and shows all the same."""

    def __init__(
        self, failure: Failure, usage: Usage = NOTHING_USED, signals: Signals = NOTHING_SEEN
    ) -> None:
        super().__init__(failure.reason)
        self.failure, self.usage, self.signals = failure, usage, signals


class StatusError(Exception):
    """A server answered with an error, perhaps within a good answer; `body` is its error object."""

    def __init__(self, status: int, text: str, headers: object = None, body: object = None) -> None:
        super().__init__(text)
        self.status_code, self.headers, self.body = status, headers, body


def failure_of(error: BaseException) -> Failure:
    """Whatever a client raised, as a `Failure`."""
    chain = [error]  # outermost first
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < MOST_WRAPPED:
        chain.append(inner)
    if (broken := next((each for each in chain if isinstance(each, Broken)), None)) is not None:
        return broken.failure
    named = [names_of(each) for each in chain]
    for each, names in zip(chain, named, strict=True):
        if _litellms(names):  # which calls much an APIConnectionError: what it wraps tells more
            continue
        if (status := status_of(each)) is not None:
            headers = getattr(getattr(each, "response", None), "headers", None)
            headers = headers or getattr(each, "headers", None)
            kinds = (REFUSING[name] for names in named for name in names if name in REFUSING)
            body = getattr(each, "body", None)
            return of_status(status, str(error), headers, body, next(kinds, None))
        if (meant := meaning(names)) is not None:
            return meant
    if (meant := meaning(named[0])) is not None:
        return meant
    status = status_of(error)
    if status is None:
        return Failure(type(error).__name__, 500, rests=False)
    if status == 400:  # LiteLLM cannot put the call into the provider's words: nobody was asked
        return replace(REFUSES_US_PERHAPS, reason="400", status_code=400)
    return of_status(status, str(error), getattr(error, "litellm_response_headers", None))


def meaning(names: list[str]) -> Failure | None:
    """What the table says of an exception, by `names_of`."""
    own = [name for name in names if _litellms([name])] if _litellms(names) else names
    return next((EXCEPTIONS[name] for name in own if name in EXCEPTIONS), None)


def of_status(
    status: int,
    text: str = "",
    headers: object = None,
    body: object = None,
    kind: Refused | None = None,
) -> Failure:
    """A server's error answer; `kind` is what it refuses, where that is known without its words."""
    if not 400 <= status < 600:
        return INVALID
    meant = STATUSES.get(status, BUSY if status >= 500 else MALFORMED)
    kind = kind or refused(text, REFUSALS.get(status, ())) or meant.refused
    if status == 429 and "request too large" in text.lower():
        kind = "context"  # OpenAI's limit of tokens per minute is less than this call alone
    if kind is not None:
        window = window_in(text) if kind == "context" else None
        return replace(
            FILTERED, reason=_REASONS[kind], status_code=status, refused=kind, window=window
        )
    wait = asked_wait(headers, body, limited=status == 429) if meant.retryable else None
    if wait is None and status == 503:
        wait = loading_wait(text)
    return replace(meant, reason=str(status), status_code=status, retry_after_s=wait)


#: Words of an error's type or code within a good answer, and the status that they stand for.
_CODES: tuple[tuple[int, str], ...] = (
    (429, "rate_limit too_many exhausted quota throttl"),
    (529, "overloaded"),
    (503, "unavailable"),
    (504, "timeout deadline"),
    (401, "auth api_key"),
    (402, "billing credit"),
    (403, "permission"),
    (404, "not_found"),
    (400, "invalid context filter"),
    (500, "internal server_error"),
)


def raise_error(body: Mapping[str, Any]) -> None:
    """Raise the `StatusError` that an answer with a good status, or a choice in it, carries."""
    several = body.get("errors")
    error: Any = body.get("error") or (several[0] if isinstance(several, list) and several else 0)
    if not error and "choices" not in body and (body.get("object") or body.get("type")) == "error":
        error = body
    if not error:
        return
    text = json.dumps(error, default=str)[:LOOKED_AT]
    codes = [mapping(error).get(key) for key in ("code", "status", "status_code", "type")]
    numbers = (whole(code) for code in codes)
    words = " ".join(str(code) for code in codes if isinstance(code, str)).lower()
    status = next((n for n in numbers if n is not None and 400 <= n < 600), None)
    status = status or next(
        (code for code, parts in _CODES if any(part in words for part in parts.split())), None
    )
    if status is None and refused(text) is None:
        raise Broken(INVALID)
    raise StatusError(status or 400, text, body=error)


def status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    found = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return found if isinstance(found, int) else None


def _litellms(names: list[str]) -> bool:
    return names[0].startswith("litellm.")


def names_of(error: BaseException) -> list[str]:
    """Library and name of an exception's class and of its bases."""
    return [f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
