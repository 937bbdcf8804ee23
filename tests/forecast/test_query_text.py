"""Templates: taken off once an agent has shown them, and never the question itself."""

from predict_world import make_table

from aios_eccos.forecast.query_text import AGENTS, REMEMBERED, TemplateFilter

WRAP = (
    "You are a careful agent.\nTools: none\n\nQuestion: {}\n\nThink step by step.\nAnswer in JSON."
)


def test_a_template_goes_and_the_question_stays():
    strip = TemplateFilter()
    texts = make_table(10)[0].texts
    got = [strip.question("a", WRAP.format(text)) for text in texts]
    assert got[0] == WRAP.format(texts[0])
    assert got[3:] == list(texts[3:])


def test_bare_questions_are_left_alone():
    strip = TemplateFilter()
    texts = [f"{text}\nsecond line {i}" for i, text in enumerate(make_table(20)[0].texts)]
    assert [strip.question("a", text) for text in texts] == texts


def test_the_same_question_again_and_again_stays_whole():
    strip = TemplateFilter()
    for _ in range(20):
        assert strip.question("a", "one\ntwo") == "one\ntwo"
    for text in ("", "\n\n", "x"):
        assert strip.question("b", text) == text


def test_agents_do_not_mix_and_are_forgotten_when_there_are_many():
    strip = TemplateFilter()
    for i in range(10):
        strip.question("a", WRAP.format(i))
    assert strip.question("b", WRAP.format("new")) == WRAP.format("new")
    for i in range(AGENTS):
        strip.question(f"agent {i}", "x")
    assert strip.question("a", WRAP.format("late")) == WRAP.format("late")


def test_an_agent_may_change_its_template():
    strip = TemplateFilter()
    for i in range(10):
        strip.question("a", WRAP.format(i))
    for i in range(REMEMBERED):
        last = strip.question("a", f"New rules.\nTask: weigh {i} large apples\nBe brief.")
    assert last == f"weigh {REMEMBERED - 1} large apples"


def test_a_text_that_grows_keeps_its_question():
    strip = TemplateFilter()
    for question in make_table(8)[0].texts:
        text = WRAP.format(question)
        for step in range(8):
            assert question in strip.question("a", text)
            text += f"\nThought {step}: look it up\nObservation {step}: found {question}"


def test_a_question_asked_again_beside_a_changing_id_is_not_lost():
    strip = TemplateFilter()
    for number in range(20):
        assert "seven ate nine" in strip.question(
            "a", f"id {number}\nWhy was it that seven ate nine?"
        )
