r"""Pairs of answers to one question: whether they are the same final answer, by the formats' rules.

The pairs of `FIRST` were written before the code that they measure, those of `LATER` after it.
"""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    kind: str
    one: object
    other: object
    same: bool
    source: str


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"name": name, "parameters": arguments}


#: A tool call is a list of calls, everything else an answer's text.
FIRST = [
    # Numbers: GSM8K's "#### 18", ZeroEval's "answer" field, MATH's box, sentences.
    Pair("number", "9 * 2 = 18\n#### 18", r"\boxed{18}", True, "GSM8K, MATH"),
    Pair("number", "#### 18", '{"reasoning": "9*2", "answer": "18"}', True, "ZeroEval"),
    Pair("number", "The answer is 18.", "So she has 9*2.\n\nThe answer is $18", True, "Minerva"),
    Pair("number", "The answer is 1,234", r"\boxed{1{,}234}", True, "thousands"),
    Pair("number", "#### 1234.0", "#### 1234", True, "1 == 1.0"),
    Pair("number", "#### 18", "#### 19", False, "GSM8K"),
    Pair("number", "#### -5", "#### 5", False, "sign"),
    Pair("number", "The answer is 18 eggs.", "The answer is 18.", True, "a counted noun"),
    Pair("number", "Answer: 5 km", "Answer: 5 m", False, "units of another scale"),
    Pair("number", "Answer: 5 hours", "Answer: 5 minutes", False, "units of another scale"),
    Pair("number", "Answer: 33.33", "Answer: 33.3333", False, "rounded to different places"),
    Pair("number", r"\boxed{0.333333}", r"\boxed{\frac13}", True, "rounded to six digits"),
    Pair("number", "42", "42.", True, "the whole answer"),
    Pair("number", "x > 5", "x < 5", False, "relations"),
    Pair("number", "Answer: > 5", "Answer: 5", False, "relations"),
    Pair("number", "Answer: 3:30", "Answer: 3:45", False, "times"),
    Pair("number", "Answer: 3:00 PM", "Answer: 3:00 AM", False, "times"),
    Pair("number", "1.2.3", "1.2.4", False, "versions"),
    Pair("number", "192.168.1.1", "192.168.1.2", False, "addresses"),
    Pair("number", "2024-05-12", "2024-05-13", False, "dates"),
    Pair("number", "Answer: 50%", "Answer: 50", True, "MATH: the percent sign is no part"),
    Pair("number", "Answer: 5 to 10", "Answer: 5 to 12", False, "ranges"),
    Pair(
        "number",
        "In 1969 men landed on the Moon, and it took until 1972.",
        "The last mission that went there flew at the end of 1972.",
        False,
        "no statement",
    ),
    # Choices: MMLU-Pro's "The answer is (X)", simple-evals' "Answer: X".
    Pair("choice", "The answer is (B).", "Answer: B", True, "MMLU-Pro, simple-evals"),
    Pair("choice", "The answer is (B).", "B) Paris", True, "MMLU-Pro"),
    Pair("choice", "B", "(B)", True, "MMLU-Pro"),
    Pair("choice", r"\boxed{B}", r"Answer: \text{(B)}", True, "MMLU-Pro"),
    Pair("choice", "The answer is (B).", "The answer is (C).", False, "MMLU-Pro"),
    Pair("choice", "B", "b", False, "the choice is not the text"),
    Pair("choice", "C", "C++", False, "a language"),
    Pair("choice", "Answer: A and B", "Answer: A", False, "two choices"),
    Pair("choice", "The answer is (D). Berlin lies on the Spree.", "Answer: D", True, "MMLU-Pro"),
    Pair("choice", "A cat", "A dog", False, "an article"),
    # Mathematics: MATH's LaTeX.
    Pair("maths", r"\boxed{\frac12}", r"\boxed{0.5}", True, "MATH"),
    Pair("maths", r"\boxed{\frac{1}{2}}", r"The answer is $\dfrac12$.", True, "MATH"),
    Pair("maths", r"\boxed{2\sqrt{2}}", r"\boxed{\sqrt{8}}", True, "MATH"),
    Pair("maths", r"\boxed{(x+1)(x-1)}", r"\boxed{x^2-1}", True, "MATH"),
    Pair("maths", r"\boxed{x^2-1}", r"\boxed{x^2+1}", False, "MATH"),
    Pair("maths", r"\boxed{3\pi}", r"\boxed{\pi \cdot 3}", True, "MATH"),
    Pair("maths", r"\boxed{3\pi}", r"\boxed{9.42}", False, "rounded"),
    Pair("maths", r"\boxed{(1, 2)}", r"\boxed{\left(1,2\right)}", True, "MATH: pairs"),
    Pair("maths", r"\boxed{(1, 2)}", r"\boxed{(2, 1)}", False, "MATH: pairs"),
    Pair("maths", r"\boxed{(1, 2)}", r"\boxed{[1, 2]}", False, "MATH: intervals"),
    Pair("maths", r"\boxed{\{1,2\}}", r"\boxed{\{2,1\}}", True, "MATH: sets"),
    Pair("maths", r"\boxed{x = 5}", r"\boxed{5}", True, "a label"),
    Pair("maths", r"\boxed{x = 5, y = 3}", r"\boxed{x = 4, y = 3}", False, "two equations"),
    Pair("maths", r"\boxed{2^{10}}", r"\boxed{1024}", True, "MATH"),
    Pair("maths", r"\boxed{3+4i}", r"\boxed{4i+3}", True, "MATH: complex"),
    Pair("maths", r"\boxed{x^2}", r"\boxed{y^2}", False, "other variables"),
    Pair("maths", r"\boxed{90^\circ}", r"\boxed{90}", True, "degrees"),
    # JSON: RFC 8259, and fenced blocks.
    Pair("json", '{"a": 1, "b": 2}', '{"b":2,"a":1.0}', True, "RFC 8259: unordered"),
    Pair("json", '{"a": "1"}', '{"a": 1}', False, "strings stay strings"),
    Pair("json", '{"a": [1, 2]}', '{"a": [2, 1]}', False, "RFC 8259: arrays are ordered"),
    Pair("json", '```json\n{"a": 1}\n```', '{"a": 1}', True, "a fence"),
    Pair("json", '{"a": true}', '{"a": 1}', False, "true is not 1"),
    Pair("json", '{"a": null}', "{}", False, "null is a value"),
    Pair("json", 'Here it is:\n```json\n{"a": 1}\n```', '```\n{ "a" : 1 }\n```', True, "a fence"),
    # Code literals: CRUXEval.
    Pair("literal", "[(4, 1), (2, 3)]", "[(4,1),(2,3)]", True, "CRUXEval"),
    Pair("literal", "[(4, 1), (2, 3)]", "[[4, 1], [2, 3]]", False, "CRUXEval"),
    Pair("literal", '{"answer": "{1: None, 2: None}"}', "{2:None,1:None}", True, "CRUXEval"),
    Pair("literal", "{1: 'b'}", "{'1': 'b'}", False, "CRUXEval"),
    Pair("literal", "'aB'", '"aB"', True, "CRUXEval: quotes"),
    Pair("literal", "'aB'", "'ab'", False, "CRUXEval: case"),
    Pair("literal", "{1, 2}", "{2, 1}", True, "Python: sets"),
    # Tool calls.
    Pair("tools", [call("f", x=1)], [call("f", x=1.0)], True, "1 == 1.0"),
    Pair("tools", [call("f", x="1")], [call("f", x=1)], False, "strings stay strings"),
    Pair("tools", [call("f", x=1), call("g")], [call("g"), call("f", x=1)], True, "any order"),
    Pair("tools", [call("f", x=1)], [call("f", x=1), call("f", x=1)], False, "twice"),
    Pair("tools", [call("f", x=1, y=2)], [call("f", y=2, x=1)], True, "keys in any order"),
    Pair("tools", [call("f")], [call("g")], False, "another tool"),
    Pair(
        "tools",
        [
            {
                "type": "function",
                "id": "c1",
                "function": {"name": "f", "arguments": '{"x": [1, {"y": 2}]}'},
            }
        ],
        [call("f", x=[1, {"y": 2}])],
        True,
        "OpenAI's shape",
    ),
    Pair("tools", [call("f", x=[1, 2])], [call("f", x=[2, 1])], False, "arrays are ordered"),
    Pair("tools", [call("f")], "f", False, "a call is no text"),
    # Short texts.
    Pair("text", "Paris", "paris.", True, "SQuAD: case, punctuation"),
    Pair("text", "The Eiffel Tower", "Eiffel  Tower", True, "SQuAD: articles, blanks"),
    Pair("text", "Answer: Paris", "**Paris**", True, "marks"),
    Pair("text", "Paris", "London", False, "SQuAD"),
    Pair("text", "C++", "C#", False, "signs that mean something"),
    Pair("text", "ls -l", "ls -L", False, "code keeps its case"),
    Pair("text", "red, green", "red,green", True, "blanks at commas"),
    Pair("text", "yes", "no", False, "words"),
    Pair("text", "Hepatitis A", "Hepatitis B", False, "letters"),
    Pair("text", "<think>Maybe London.</think>Paris", "Paris", True, "thoughts"),
]

LATER = [
    Pair("number", "The total is twelve.\n#### 12", "#### 12.00", True, "GSM8K"),
    Pair("number", "Answer: about 5", "Answer: 5", True, "a filler"),
    Pair("number", "Answer: 7.5 GB", "Answer: 7.5 MB", False, "units of another scale"),
    Pair("number", "Answer: 20 °C", "Answer: 20 °F", False, "units of another scale"),
    Pair("number", "Answer: 5 km/h", "Answer: 5 km", False, "a rate and a length"),
    Pair("number", "Answer: 3.5 million", "Answer: 3,500,000", True, "magnitudes"),
    Pair("number", "007", "7", False, "a code"),
    Pair("number", "3com", "3par", False, "names that begin with a digit"),
    Pair("number", "5!", "5", False, "a factorial"),
    Pair("number", "555-1234", "555-1235", False, "telephone numbers"),
    Pair("number", "3-2", "2-1", False, "scores"),
    Pair("number", "12/05/2024", "12/06/2024", False, "dates"),
    Pair("number", "Answer: at least 5", "Answer: at most 5", False, "bounds"),
    Pair("number", "Answer: 5 or 6", "Answer: 5", False, "two numbers"),
    Pair("number", r"\boxed{1\frac12}", r"\boxed{\frac32}", True, "mixed numbers"),
    Pair("number", r"\boxed{1.5 \times 10^{3}}", r"\boxed{1500}", True, "powers of ten"),
    Pair("number", r"\boxed{5\text{ cm}}", "Answer: 5 cm", True, "MATH: units"),
    Pair(
        "number",
        "So there are 7 of them in all, 3 red and 4 blue, as I counted them above here.",
        "I counted 3 red ones and then 4 more blue ones, as I had told you in the first lines: 4.",
        False,
        "no statement",
    ),
    Pair("choice", "Answer: C because it is the largest", "C", True, "a reason"),
    Pair("choice", "The correct option is **D**.", "D", True, "simple-evals"),
    Pair("choice", "Answer: A and C", "Answer: C and A", False, "unknown order: a judge says"),
    Pair("choice", "C#", "C++", False, "languages"),
    Pair("choice", "A+", "A-", False, "grades of schools"),
    Pair("choice", "E. coli", "E. faecalis", False, "names"),
    Pair("choice", "D: drive", "D: disk", False, "no choice"),
    Pair("choice", "Plan B", "B", False, "a letter in words"),
    Pair("maths", r"\boxed{\frac{\sqrt{3}}{2}}", r"\boxed{\sqrt{3}/2}", True, "MATH"),
    Pair("maths", r"\boxed{2x(y+1)}", r"\boxed{2xy+2x}", False, "two letters may be a word"),
    Pair("maths", r"\boxed{-x^{2}}", r"\boxed{(-x)^2}", False, "signs and powers"),
    Pair("maths", r"\boxed{2^{3^2}}", r"\boxed{512}", True, "powers from the right"),
    Pair("maths", r"\boxed{\sqrt[3]{27}}", r"\boxed{3}", True, "roots"),
    Pair("maths", r"\boxed{[0, 1)}", r"\boxed{[0, 1]}", False, "intervals"),
    Pair("maths", r"\boxed{\left(\frac12, 3\right)}", r"\boxed{(0.5, 3)}", True, "pairs"),
    Pair("maths", r"\boxed{\pm 2}", r"\boxed{2}", False, "two values"),
    Pair("maths", r"\boxed{x \le 5}", r"\boxed{x \ge 5}", False, "relations"),
    Pair("maths", r"\boxed{y = 2x + 1}", r"\boxed{2x+1}", True, "a label"),
    Pair("maths", r"\boxed{x^2+y^2=1}", r"\boxed{x^2 + y^2 = 1}", True, "equations as text"),
    Pair(
        "maths",
        r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}",
        r"\boxed{\begin{pmatrix}1\\3\end{pmatrix}}",
        False,
        "matrices",
    ),
    Pair("maths", r"\boxed{10^{1000000000}}", r"\boxed{10^{1000000000}}", False, "too big"),
    Pair("maths", "listen", "silent", False, "words are no products"),
    Pair("json", '{"answer": "Paris", "confidence": 0.9}', '{"answer": "Paris"}', True, "reasons"),
    Pair("json", '{"answer": "Paris", "country": "FR"}', '{"answer": "Paris"}', False, "content"),
    Pair("json", '{"a": 0.1}', '{"a": 0.10}', True, "numbers"),
    Pair("json", '{"a": "x y"}', '{"a": "xy"}', False, "strings exactly"),
    Pair("json", '{"id": 12345678901234567890}', '{"id": 12345678901234567891}', False, "integers"),
    Pair("json", "[]", "{}", False, "kinds"),
    Pair("literal", "```python\n[1, 2]\n```", "[1,2]", True, "a fence"),
    Pair("literal", "(1,)", "1", False, "a tuple of one"),
    Pair("literal", "True", "true", True, "Python and JSON"),
    Pair("literal", "True", "1", False, "true is not 1"),
    Pair("literal", "'5'", "5", False, "strings stay strings"),
    Pair("tools", [call("f", x=True)], [call("f", x=1)], False, "true is not 1"),
    Pair("tools", [call("f", a={"b": [1.0]})], [call("f", a={"b": [1]})], True, "1 == 1.0"),
    Pair("tools", [call("f", x="New York")], [call("f", x="new york")], False, "strings exactly"),
    Pair("tools", [call("f", x=None)], [call("f")], False, "null is a value"),
    Pair(
        "tools",
        [{"name": "f", "parameters": {}, "id": "1"}],
        [{"name": "f", "id": "2"}],
        True,
        "identities do not count",
    ),
    Pair("text", "Don’t know", "don't know", True, "typography"),
    Pair("text", "src/Main.py", "src/main.py", False, "paths keep their case"),
    Pair("text", "user_id", "USER_ID", False, "identifiers keep their case"),
    Pair("text", "not Paris", "Paris", False, "negation"),
    Pair("text", "año", "ano", False, "accents"),
    Pair("text", "a" * 61, "a" * 61, False, "too long for a short text"),
    Pair("text", "<answer>Paris</answer>", r"\boxed{\text{Paris}}", True, "DeepSeek-R1, MATH"),
    Pair(
        "text",
        "Done: the answer is Paris.\nBut let me think about it once more, in detail.",
        "Paris",
        False,
        "words in the middle of an answer",
    ),
]
