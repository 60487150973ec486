"""Questions become prompts with candidates: balanced, behind fixed examples, told apart by their first tokens."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthscope.errors import BadInput, EmptyMaterial, UnknownName
from depthscope.materials.option_pairs import OptionPairs
from depthscope.materials.options import OptionPrompts, distinguished
from depthscope.materials.questions import balanced, examples, questions, shuffled
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", max_position_embeddings=4096)


def decoded(ids: list[int], text: str) -> bool:
    """Whether ids end like a text, under the plain tokenizer."""
    return ids[-len(text) :] == tiny("llama").tokenizer.encode(text)


def written(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_kind_of_row_is_a_question(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"question": "Two and two?", "choices": ["3", "4"], "answer_index": 1},
        *(
            {"premise": "It rains.", "hypothesis": "It is wet.", "label": w}
            for w in ("entailment", "contradiction")
        ),
        *({"sentence1": "a", "sentence2": "b", "label": k} for k in (0, 1)),
        *({"sentence": "a", "label": k} for k in (0, 1)),
    )
    _, tasks = questions(path)
    assert {t: [q.options[q.gold] for q in asked] for t, asked in tasks.items()} == {
        "choice": ["B"], "entailment": ["True", "False"], "paraphrase": ["No", "Yes"],
        "sentiment": ["negative", "positive"],
    }  # fmt: skip
    assert tasks["choice"][0].text == "Question: Two and two?\n(A) 3\n(B) 4\nAnswer:"
    assert tasks["choice"][0].pseudo == ("C", "D")
    # nothing in the file is "Neither"
    assert tasks["entailment"][0].options == ("True", "False")


def test_options_may_be_the_words_of_each_question(tmp_path: Path, model: Model) -> None:
    rows = [
        {
            "task": "sums",
            "prompt": f"2 + {k} =",
            "options": [k + 2, k + 3][:: 1 - 2 * (k % 2)],
            "answer": k + 2,
        }
        for k in range(6)
    ]
    path = written(tmp_path, *rows)
    asked = questions(path)[1]["sums"]
    assert [q.options[q.gold] for q in asked] == ["2", "3", "4", "5", "6", "7"]
    assert asked[1].options == ("4", "3")
    found = OptionPrompts(path, items=2, shots=2, controls=False).windows(model, 0).items
    for w in found:
        said = model.tokenizer.encode("".join(w.about["options"]))
        assert w.about["candidates"] == said
        assert decoded(list(w.ids), "= ")
    with pytest.raises(BadInput, match="row 1 cannot be asked"):
        questions(written(tmp_path, rows[0] | {"answer": 9}))


def test_two_files_of_one_kind_are_two_tasks(tmp_path: Path) -> None:
    rows = [{"sentence": "a", "label": k} for k in (0, 1)]
    (tmp_path / "b").mkdir()
    first, second = written(tmp_path, *rows), tmp_path / "b" / "more.jsonl"
    second.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert set(questions(f"{first},{second}")[1]) == {"sentiment", "sentiment:more"}


def test_rows_that_are_no_questions_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="row 1 has sentence, score; a question has one of these: question, choices"
    ):
        questions(written(tmp_path, {"sentence": "a", "score": 1}))
    with pytest.raises(BadInput, match="row 2 cannot be asked"):
        questions(written(tmp_path, *({"sentence": "a", "label_name": w} for w in ("positive", "fine"))))
    with pytest.raises(BadInput, match="every answer of sentiment is 'positive'"):
        questions(written(tmp_path, {"sentence": "a", "label": 1}))
    with pytest.raises(BadInput, match="there is no data at nowhere"):
        questions("nowhere")


def test_items_and_examples_are_balanced_and_apart() -> None:
    _, tasks = questions("")
    for asked in tasks.values():
        rng = np.random.default_rng(0)
        shown = examples(asked, 4, rng)
        golds = Counter(asked[k].gold for k in shown)
        assert len(set(shown)) == 4
        assert len(set(golds.values())) == 1
        rest = [q for k, q in enumerate(asked) if k not in shown]
        assert len(set(Counter(rest[k].gold for k in balanced(rest, 16, rng)).values())) == 1


def test_mixed_up_labels_are_the_same_labels_in_another_order() -> None:
    for golds in ([0, 1, 2, 3], [0, 1, 0, 1]):
        mixed = shuffled(golds, np.random.default_rng(3))
        assert sorted(mixed) == sorted(golds)
        assert mixed != golds


def test_a_question_is_asked_in_every_mode_under_one_name(model: Model) -> None:
    found = OptionPrompts(items=4, longest=4000).windows(model, 0).items
    modes = Counter((w.about["task"], w.about["mode"]) for w in found)
    assert set(modes.values()) == {4}
    assert {m for _, m in modes} == {"few_shot", "zero_shot", "shuffled_labels", "elsewhere"}
    assert len({w.document for w in found}) == 8
    for w in found:
        assert w.marks == (len(w.ids) - 1,)
        asked = w.about["mode"] != "elsewhere"
        assert decoded(list(w.ids), ("Answer: " if w.about["task"] == "choice" else "Sentiment: ")) == asked
        assert bool(w.about["pseudo"]) == (w.about["mode"] == "few_shot" and w.about["task"] == "choice")
    few = next(w for w in found if w.about["task"] == "choice")
    assert few.about["candidates"] == model.tokenizer.encode("ABCD")
    assert few.about["pseudo"] == model.tokenizer.encode("EFGH")


def test_the_first_token_that_differs_is_scored_behind_what_options_share() -> None:
    assert distinguished(["ab", "ac"], [[1, 2], [1, 3]], "first_distinguishing") == ([1], [2, 3])
    assert distinguished(["ab", "cb"], [[1, 2], [3, 2]], "first_distinguishing") == ([], [1, 3])
    assert distinguished(["ab", "ac"], [[1, 2], [1, 3]], "last_subtoken") == ([], [2, 3])


def test_options_that_no_token_tells_apart_are_refused() -> None:
    with pytest.raises(BadInput, match="the options 'a' and 'b' share all their tokens"):
        distinguished(["a", "b"], [[1, 2], [1, 2]], "first_distinguishing")
    with pytest.raises(BadInput, match="no single token tells the options a, b, c apart"):
        distinguished(["a", "b", "c"], [[1, 2], [1, 3], [4, 2]], "first_distinguishing")
    with pytest.raises(BadInput, match="no single token"):
        distinguished(["a", "b"], [[1], [1, 2]], "first_distinguishing")
    with pytest.raises(BadInput, match="no single token"):
        distinguished(["ab", "cb"], [[1, 2], [3, 2]], "last_subtoken")


def test_sequences_are_one_window_an_option_marked_at_all_its_tokens(model: Model) -> None:
    found = OptionPrompts(items=2, shots=0, scoring="sequence", controls=False).windows(model, 0).items
    words = [w for w in found if w.about["task"] == "sentiment"]
    assert [w.about["option"] for w in words] == [0, 1, 0, 1]
    for w in words:
        option = w.about["options"][w.about["option"]]
        assert [w.ids[m + 1] for m in w.marks] == model.tokenizer.encode(option)


def test_parameters_and_prompts_that_cannot_be_are_refused(model: Model) -> None:
    with pytest.raises(UnknownName, match="value of scoring 'best'; known: first_distinguishing"):
        OptionPrompts(scoring="best")
    with pytest.raises(BadInput, match="items=1 must be 2 or more"):
        OptionPrompts(items=1)
    with pytest.raises(EmptyMaterial, match="every prompt is longer than 40 tokens, even without examples"):
        OptionPrompts(items=2, longest=40).windows(model, 0)


def test_examples_are_left_out_until_half_of_the_questions_fit(model: Model) -> None:
    found = OptionPrompts(items=4, longest=400).windows(model, 0).items
    shots = {w.about["task"]: w.about["shots"] for w in found}
    assert 0 < shots["choice"] < 4
    assert shots["sentiment"] == 4
    assert max(len(w.ids) for w in found) <= 400
    assert {w.about["shots"] for w in OptionPairs(pairs=3, longest=400).windows(model, 0).items} == {
        shots["choice"]
    }


def test_pairs_hold_two_prompts_with_different_options(model: Model) -> None:
    found = OptionPairs(pairs=5, shots=0).windows(model, 0).items
    assert len(found) == 5
    for w in found:
        assert decoded(list(w.ids), "Answer: ")
        assert decoded(w.about["donor"], "Sentiment: ")
        assert not set(w.about["target_options"]) & set(w.about["donor_options"])
    with pytest.raises(BadInput, match="no questions of riddles; it has sentiment, choice"):
        OptionPairs(target="riddles").windows(model, 0)
    with pytest.raises(BadInput, match="share the option token"):
        OptionPairs(target="choice", donor="choice").windows(model, 0)


def test_the_packaged_questions_are_balanced() -> None:
    _, tasks = questions("")
    golds = {task: Counter(q.gold for q in asked) for task, asked in tasks.items()}
    assert golds == {"sentiment": {0: 22, 1: 22}, "choice": dict.fromkeys(range(4), 7)}
    assert all(len(set(q.text.split("\n")[1:5])) == 4 for q in tasks["choice"])
