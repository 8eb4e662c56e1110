"""The labelled sets: no question is in its own passage, none is asked twice, samples keep answers right."""

from __future__ import annotations

from weftos.bench.recall_sets import Labelled, code, prose, sample


def test_no_answer_holds_its_question() -> None:
    text = prose(100, ("click",))
    for labelled in (code(1), text):
        assert len(labelled.questions) > 20
        for question, answer in labelled.questions:
            assert question not in labelled.passages[answer]
    assert len({question for question, _ in text.questions}) == 100


def test_a_sample_keeps_questions_with_their_answers() -> None:
    whole = Labelled([f"passage {n}" for n in range(50)], [(f"question {n}", n) for n in range(0, 50, 3)])
    part = sample(whole, 20)
    assert len(part.passages) == 20
    assert part.questions
    for question, answer in part.questions:
        assert part.passages[answer].split()[1] == question.split()[1]
    assert sample(whole, 50) == whole
