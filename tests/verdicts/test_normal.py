"""Two answers have one normal form exactly where they are one final answer, whatever is sent."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import FIRST, LATER, Pair, call

from aios_eccos.errors import EccosError
from aios_eccos.verdicts.keys import key_of, load_secret
from aios_eccos.verdicts.normal import normal_form

LONG = 100_000


def form(answer: object) -> str | None:
    return normal_form(answer) if isinstance(answer, str) else normal_form(None, answer)  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", [*FIRST, *LATER], ids=lambda p: f"{p.kind}-{p.one}"[:40])
def test_two_answers_are_one_or_are_not(pair: Pair) -> None:
    one, other = form(pair.one), form(pair.other)
    assert (one is not None and one == other) is pair.same, (one, other)


def test_the_table_has_every_kind_and_both_verdicts() -> None:
    pairs = [*FIRST, *LATER]
    assert len(pairs) >= 120
    assert len(FIRST) >= len(pairs) / 2
    for kind in {pair.kind for pair in pairs}:
        assert {pair.same for pair in pairs if pair.kind == kind} == {True, False}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("B", "choice"), ("b", "text"), ("#### 5", "number"), (r"\boxed{x^2}", "maths"),
        ("[1]", "value"), ([call("f")], "tools"), ("Paris", "text"),
    ],
)  # fmt: skip
def test_the_kind_is_part_of_the_form(answer: object, kind: str) -> None:
    assert (form(answer) or "").startswith(f"{kind}:")


@pytest.mark.parametrize(
    "answer",
    [
        None, "", "  ", "<think>never ends", "\ud800", "Answer: \udfff", '{"a": "\\ud800"}',
        "x" * (LONG + 1), "[" * LONG, '{"a":' * 20_000, r"\boxed{10^{1000000000}}",
        r"\boxed{9^{9^{9^{9}}}}", "2^{10^9}", '{"a": 1e999}', "9" * LONG,
        r"\boxed{" + "(" * 90 + "x" + ")" * 90 + "}", "word " * 30,
        "The city was founded in 1200.\n\nIt has been the capital since 1871, as far as we know.",
    ],
    ids=lambda a: str(a).encode("ascii", "replace")[:20],
)  # fmt: skip
def test_what_cannot_be_read_with_certainty_has_no_form(answer: str | None) -> None:
    assert normal_form(answer) is None


@pytest.mark.parametrize(
    "calls",
    [
        ["f"], [{}], [{"function": None}], [{"name": 1}], [{"name": "f", "arguments": "{"}],
        [{"name": "f", "parameters": {"a": float("nan")}}],
        [{"name": "f", "parameters": {"a": {1}}}],
        [{"name": "f", "arguments": '{"a":' * 20_000}], [{"name": "f", "parameters": [1] * LONG}],
        [{"name": "\ud800"}],
    ],
    ids=lambda calls: str(calls).encode("ascii", "replace")[:40],
)  # fmt: skip
def test_hostile_tool_calls_have_no_form(calls: list[object]) -> None:
    assert (normal_form(None, calls) or "").isascii()  # type: ignore[arg-type]


UNITS = [
    "[", "{", "(", "-", "9", "1,", "a ", "\\boxed{", "\\frac{", "\\sqrt{", "^{", "$", "```\n",
    "~~~\n", "<think>", "</think>", "<|channel|>", "<|channel|>a<|message|>", "#### ",
    "The answer is ", "Answer\n", "<answer>", '"answer": "', "\\", "'", "\n", " ", "A) ", "\\text{",
    "exp((", "answer of a",
    "> ", "* ", "\u200b", "not ", "√(", "1_000_", "=", "≈", "5 m ", "&", "|", "x^",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_hostile_answers_end_in_time(unit: str) -> None:
    normal_form("```\n1\n```")  # imports
    long = unit * (LONG // len(unit))
    answers = [long, "<|channel|>" + long, "Answer: " + long[:2_000], "[" + long[:1_900]]
    answers += [r"\boxed{" + long[:190] + "}", json.dumps({"answer": long[:50_000]}), long[:60]]

    def seconds(answer: str) -> float:
        began = time.thread_time()
        normal_form(answer[:LONG])
        normal_form(None, [{"name": "f", "arguments": answer[:LONG]}])
        return time.thread_time() - began

    for answer in answers:  # what else the machine does makes one or the other slow
        assert any(seconds(answer) < 0.2 for _ in range(5)), ascii(answer[:40])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=4), JSON, min_size=1), st.randoms())
def test_neither_layout_nor_the_order_of_keys_counts(value, random) -> None:
    keys = [*value]
    random.shuffle(keys)
    again = json.dumps({key: value[key] for key in keys}, indent=1)
    assert normal_form(again) == normal_form(json.dumps(value))
    calls = [{"name": "f", "arguments": again}, call("g")]
    assert normal_form(None, calls[::-1]) == normal_form(None, [call("f", **value), call("g")])


@given(JSON, JSON)
def test_only_equal_values_share_a_form(one, other) -> None:
    forms = [normal_form(None, [{"name": "f", "parameters": {"x": x}}]) for x in (one, other)]
    strict = [json.dumps(value, sort_keys=True) for value in (one, other)]
    assert None in forms or (forms[0] == forms[1]) is (strict[0] == strict[1])


@given(st.fractions(max_denominator=500), st.fractions(max_denominator=500))
def test_fractions_are_one_number_where_their_values_are_one(
    one: Fraction, other: Fraction
) -> None:
    latex = rf"\boxed{{\frac{{{one.numerator * 3}}}{{{one.denominator * 3}}}}}"
    assert normal_form(latex) == normal_form(f"Answer: {one.numerator}/{one.denominator}")
    if abs(one - other) > 2e-6:
        assert normal_form(latex) != normal_form(f"Answer: {other.numerator}/{other.denominator}")


@given(st.text(max_size=200))
def test_any_text_has_a_form_or_none(text: str) -> None:
    found = normal_form(text)
    assert found is None or found.partition(":")[0] in {
        "tools", "value", "number", "choice", "maths", "text"
    }  # fmt: skip


def test_a_key_tells_equality_and_nothing_else() -> None:
    secret, other = bytes(32), bytes(31) + b"1"
    assert key_of("number:5", secret) == key_of("number:5", secret)
    assert key_of("number:5", secret) != key_of("number:6", secret)
    assert key_of("number:5", secret) != key_of("number:5", other)
    assert len(key_of("text:" + "é" * 1000, secret)) == 32


def test_all_who_ask_first_at_once_get_one_secret(tmp_path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: load_secret(tmp_path), range(32)))
    assert len(secrets) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.key"]
    assert (tmp_path / "answers.key").stat().st_mode & 0o777 == 0o600


def test_a_damaged_secret_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "answers.key").write_bytes(b"short")
    with pytest.raises(EccosError, match=r"answers\.key holds 5 bytes"):
        load_secret(tmp_path)
