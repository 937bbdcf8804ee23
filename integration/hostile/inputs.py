"""What agents, operators, data sets and model servers may say: anything that JSON or YAML can hold.

Each door is a function of ours at which such values come in, and the errors that it may raise.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aios_eccos.config import parse_config
from aios_eccos.config.yaml_text import decode, load
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.history.dataset import parse_row, read_records
from aios_eccos.history.rows import decode_message
from aios_eccos.kernel.calls import Refused, conversation, last_user_text, lot_of, read_query, turn
from aios_eccos.observe.text import cut, wrap
from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import Broken, StatusError, failure_of
from aios_eccos.providers.wire import cleaned
from aios_eccos.verdicts.normal import normal_form

#: Words that mean something to somebody on the way.
WORDS = (
    *(
        "\x1b[2J\x1b]0;owned\x07",
        "a\r\nERROR aios_eccos: forged",
        "../../etc/passwd",
        "%00",
        "\x00",
    ),
    *("'; redis.call('FLUSHALL') --", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "\x9b31m"),
    *("!!python/object/apply:os.system [id]", "&a [*a, *a]", "${HOME}", "{{7*7}}", "\u202eevil"),
    *("\ud800", "\udfff\ud800", "\ufeff", "a" * 5000, "<script>alert(1)</script>", "NaN", "1e999"),
)
#: Keys that we look for.
KEYS = (
    *("role", "content", "type", "text", "name", "eccos", "tool_calls", "function", "arguments"),
    *("id", "choices", "message", "usage", "prompt_tokens", "completion_tokens", "finish_reason"),
    *("error", "code", "image_url", "source", "media_type", "parts", "floor", "deadline_s"),
    *("query", "query_id", "outputs", "model_name", "correctness", "output_token_length"),
    *("input_token_length", "models", "hostname", "concurrency", "rpm", "redis", "agents", "plans"),
    *("quality_floor", "max_cost", "audit", "judge", "forget", "outcomes", "input_tokens"),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**18, -(10**18), 10**400, -1, 0, math.nan, math.inf, 1e308, 5e-324, True]),
)
TEXTS = st.one_of(st.sampled_from([*WORDS, *KEYS, "user", "assistant", "tool"]), st.text())
ATOMS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)


def deep(depth: int) -> Any:
    """A list in lists."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


VALUES = st.one_of(
    st.recursive(
        ATOMS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXTS), inner, max_size=6),
        ),
        max_leaves=25,
    ),
    st.sampled_from([deep(90), deep(300), {"content": deep(300)}]),
)
MESSAGES = st.lists(
    st.one_of(
        VALUES,
        st.fixed_dictionaries(
            {"role": st.one_of(st.sampled_from(["user", "assistant", "tool"]), ATOMS)},
            optional={"content": VALUES, "tool_calls": VALUES, "tool_call_id": VALUES},
        ),
    ),
    max_size=4,
)
ENTRIES = st.lists(
    st.one_of(
        VALUES,
        st.fixed_dictionaries({}, optional={"name": TEXTS, "backend": VALUES, "eccos": VALUES}),
        st.fixed_dictionaries(
            {"name": st.just("small")},
            optional={
                "eccos": st.dictionaries(
                    st.sampled_from(["floor", "deadline_s", "priority", "max_cost", "private"]),
                    ATOMS,
                )
            },
        ),
    ),
    max_size=3,
)


@dataclass(frozen=True)
class Door:
    """Where values come in: a strategy of them, what takes them, and the errors that it raises."""

    values: st.SearchStrategy[Any]
    takes: Callable[[Any], object]
    refuses: tuple[type[Exception], ...] = ()


def _query(given: tuple[Any, ...]) -> None:
    agent, messages, llms, tools, most, form, kind = given
    query = SimpleNamespace(
        messages=messages,
        llms=llms,
        tools=tools,
        max_new_tokens=most,
        response_format=form,
        message_return_type=kind,
    )
    found = read_query(agent, query, {"small", "large"})
    found.text.encode()
    found.agent.encode()
    assert found.input_tokens >= 0
    assert found.floor is None or 0 <= found.floor <= 1
    turn(agent, messages)
    conversation(agent, messages)
    assert 0 <= lot_of(agent, messages) <= 1
    last_user_text(messages)


def _configuration(given: tuple[Any, Any]) -> None:
    parse_config(*given)


def _yaml(text: str) -> None:
    load(decode(text.encode("utf-8", "surrogatepass"), "file"), "file")


def _row(row: object) -> None:
    record = parse_row(row)
    record.text.encode()
    json.dumps([outcome.model for outcome in record.outcomes]).encode()


def _file(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(raw)
        for found in read_records(path):
            str(found).encode("utf-8", "surrogatepass")


def _inbox(value: object) -> None:
    decode_message(json.dumps(value).encode())


def _answer(body: object) -> None:
    found = read(body).counted("a prompt")
    (found.text or "").encode()
    found.thoughts.encode()
    cleaned([call.parameters for call in found.calls or ()])
    assert found.input_tokens is None or 0 <= found.input_tokens <= 10**8
    assert found.output_tokens is None or 0 <= found.output_tokens <= 10**8
    calls = [{"name": call.name, "parameters": call.parameters} for call in found.calls or ()]
    normal_form(found.text, calls)


def _failure(given: tuple[int, str, dict[str, str], Any]) -> None:
    status, text, headers, body = given
    found = failure_of(StatusError(status, text, httpx.Headers(headers), body))
    assert found.reason
    found.reason.encode()


def _shown(text: str) -> None:
    for shown in (cut(text, 40), wrap(text)):
        assert all(c.isprintable() or c == "\n" for c in shown), repr(shown)


DOORS: dict[str, Door] = {
    "messages, llms and hints of an agent": Door(
        st.tuples(TEXTS, MESSAGES, st.one_of(st.none(), ENTRIES), VALUES, ATOMS, VALUES, ATOMS),
        _query,
        (Refused,),
    ),
    "settings and models of a configuration": Door(
        st.tuples(VALUES, VALUES), _configuration, (ConfigError,)
    ),
    "text of a configuration": Door(st.one_of(TEXTS, VALUES.map(str)), _yaml, (ConfigError,)),
    "row of a data set": Door(VALUES, _row, (DataError,)),
    "file of a data set": Door(
        st.one_of(st.binary(), VALUES.map(lambda value: json.dumps([value, value]).encode())),
        _file,
        (DataError,),
    ),
    "message of the inbox": Door(VALUES, _inbox, (DataError,)),
    "answer of a model's server": Door(
        st.one_of(
            VALUES,
            st.fixed_dictionaries(
                {
                    "choices": st.lists(
                        st.fixed_dictionaries({"message": VALUES, "finish_reason": ATOMS}),
                        max_size=2,
                    )
                },
                optional={"usage": VALUES, "error": VALUES},
            ),
        ),
        _answer,
        (Broken, StatusError),
    ),
    "error of a model's server": Door(
        st.tuples(
            st.integers(100, 599),
            TEXTS,
            st.dictionaries(
                st.sampled_from(["Retry-After", "x-ratelimit-reset-requests", "x-other"]),
                st.one_of(st.sampled_from(["nan", "-1", "1e999", "9" * 400]), st.text("az19:. ")),
            ),
            VALUES,
        ),
        _failure,
    ),
    "text that is shown": Door(TEXTS, _shown),
}


def knock(door: Door, examples: int) -> tuple[int, list[str]]:
    """Try a door with so many values, the same ones each time; how many, and what is wrong."""
    tried = 0

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(door.values)
    def each(value: Any) -> None:
        nonlocal tried
        tried += 1
        try:
            door.takes(value)
        except door.refuses as error:
            str(error).encode("utf-8", "surrogatepass")

    try:
        each()
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return tried, [f"{type(error).__name__}: {str(error)[:200]}"]
    return tried, []
