"""Completions on a page and among tokens: spans stay inside the text, and text stays text."""

import json

from hypothesis import given

from stp.models.codec import answer_spans
from stp.trace.trace import page
from tests.fuzz import inputs, plain, tried
from tests.fuzz.texts import completions


@inputs(250)
@given(completions)
def test_answer_spans_are_in_order_and_inside(completion):
    tried["completions", "accepted"] += 1
    ends = [place for span in answer_spans(completion) for place in span]
    assert ends == sorted(ends) and all(0 <= place <= len(completion) for place in ends)


@inputs(100)
@given(completions)
def test_a_page_holds_text_as_data(completion):
    """Nothing in it is markup, a control character, or turns the direction of text; it is all there."""
    tried["completions", "accepted"] += 1
    text = page(completion, [completion], [{"question": completion}])
    (line,) = [line for line in text.splitlines() if '"problems"' in line]
    inside = line.removeprefix('<script id="data" type="application/json">').removesuffix("</script>")
    assert inside.isascii() and not set(inside) & set("<>&")
    assert len(json.loads(inside)["problems"][0]["question"]) >= len(completion)
    assert text.count("<script") == 2 and all(map(plain, text.split("\n")))
