"""Depth by word class on models that say function words early and words of content late, and against plain loops."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import Plain, lens_of
from planted import LENGTH, TOKEN, V, Write, a_mistake, look, planted, says, the_answer, value
from torch import Tensor

from depthscope.analyses.pos_depth import PosDepth
from depthscope.engine.audit import audit
from depthscope.engine.class_onsets import ClassOnsets
from depthscope.engine.needs import Facts
from depthscope.engine.shard import sampled
from depthscope.errors import BadInput, MissingPackage, Refused, UnknownName
from depthscope.materials import taggers
from depthscope.materials.text import read
from depthscope.materials.window import Windows
from depthscope.materials.word_prompts import WordPrompts
from depthscope.materials.words import NO_WORD
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

EVERY = 10**6
FUNCTION = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "it",
    "with",
    "as",
    "for",
    "you",
    "he",
    "this",
    "from",
    "they",
    "we",
    "she",
    "or",
    "an",
    "will",
    "my",
    "would",
    "there",
    "their",
    "what",
    "if",
    "into",
    "your",
    "could",
    "them",
    "than",
]
WORDS = [
    FUNCTION[k // 2] if k % 2 == 0 else f"boat{chr(97 + k // 2 % 26)}{'x' * (k // 52)}" for k in range(V - 3)
]


class Words:
    """One word a token: even ids from 4 on are words of content, odd ones from 3 on are function words."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return [3 + WORDS.index(word) if word in WORDS else 0 for word in text.split()]

    def decode(self, ids: Sequence[int] | int) -> str:
        several = [ids] if isinstance(ids, int) else ids
        return " ".join(WORDS[i - 3] if i > 2 else "?" for i in several)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.decode(i) for i in ids]


def is_function(token: int) -> bool:
    return token % 2 == 1


def before(function: bool, write: Write) -> Write:
    """A write only where the next token of a rising text is a function word, or only where it is not."""
    chosen = torch.tensor([float(is_function(t + 1) == function) for t in range(V)], dtype=torch.float64)

    def restricted(x: Tensor) -> Tensor:
        return write(x) * (x[..., TOKEN] * chosen).sum(-1, keepdim=True)

    return restricted


def speaking(writes: dict[int, Write]) -> Model:
    return replace(planted(writes), tokenizer=Words())


def rising_words(documents: int = 10) -> list[str]:
    return [" ".join(WORDS[3 * k : 3 * k + LENGTH]) for k in range(documents)]


EARLY_AND_LATE = {1: before(True, the_answer(10.0)), 4: before(False, the_answer(10.0))}


def found(result: Result, name: str, **labels: object) -> float:
    return result[name].at(**labels)


# ------------------------------------------------------------------------------------------------------ planted truth


def test_function_words_said_early_and_content_late_have_their_layers_difference(tmp_path: Path) -> None:
    result = look(speaking(EARLY_AND_LATE), PosDepth(positions=EVERY, ranks=(1, V)), tmp_path, rising_words())
    for name in ("first", "stable", "persistent"):
        asked = {"definition": name, "k": 1}
        assert found(result, "onset", word_class="function", **asked) == 2
        assert found(result, "onset", word_class="content", **asked) == 5
        assert found(result, "onset_depth", word_class="content", **asked) == 5 / 6
        assert found(result, "difference", **asked) == 3
        np.testing.assert_allclose(found(result, "difference_matched", **asked), 3)
        assert found(result, "onset_median", word_class="content", definition=name) == 5
        assert found(result, "onset", word_class="content", definition=name, k=V) == 0
    np.testing.assert_array_equal(
        value(result, "reached")[result["reached"].axes["word_class"] == "function"][0], [0, 0, 1, 1, 1, 1, 1]
    )
    assert found(result, "onset_censored", word_class="content", definition="first", k=1) == 0
    assert found(result, "onset_dropped", word_class="content", definition="first", k=1) == 5
    assert found(result, "accuracy", word_class="function") == 1
    notes = " ".join(result.findings.notes)
    assert "Function words come before content words: mean first state with rank <= 1: function 2.0" in notes
    assert "No decoded position is before a word of class" in notes
    assert "NUM" in notes


def test_words_said_in_the_other_order_have_a_negative_difference(tmp_path: Path) -> None:
    other = {1: before(False, the_answer(10.0)), 4: before(True, the_answer(10.0))}
    result = look(speaking(other), PosDepth(positions=EVERY, ranks=(1,)), tmp_path, rising_words())
    assert found(result, "difference", definition="first", k=1) == -3
    assert "Content words come before function words" in result.findings.notes[0]


def test_words_said_at_the_same_layer_are_not_decided(tmp_path: Path) -> None:
    result = look(
        speaking({2: the_answer(10.0)}), PosDepth(positions=EVERY, ranks=(1,)), tmp_path, rising_words()
    )
    assert found(result, "difference", definition="stable", k=1) == 0
    assert result.findings.notes[0].startswith("Function and content words: not decided")


def test_a_word_lost_and_regained_exits_again(tmp_path: Path) -> None:
    lost = {0: the_answer(2.0), 2: before(True, a_mistake(5.0)), 4: the_answer(20.0)}
    result = look(speaking(lost), PosDepth(positions=EVERY, ranks=(1,)), tmp_path, rising_words())
    assert found(result, "reexit_rate", word_class="function", k=1) == 1
    assert found(result, "reexit_rate", word_class="content", k=1) == 0
    assert found(result, "onset", word_class="function", definition="first", k=1) == 1
    assert found(result, "onset", word_class="function", definition="stable", k=1) == 5


def test_wrong_predictions_are_kept_only_where_asked(tmp_path: Path) -> None:
    wrong = speaking({1: before(True, the_answer(10.0)), 3: before(False, a_mistake(10.0))})
    right = look(wrong, PosDepth(positions=EVERY, ranks=(1,)), tmp_path / "a", rising_words())
    assert np.isnan(found(right, "onset", word_class="content", definition="first", k=1))
    assert "no position that is kept is of this class" in right["onset"].missing
    assert "not decided, one of the groups has no position" in right.findings.notes[0]
    assert found(right, "accuracy", word_class="content") == 0
    # of 22 next words in each of 10 windows half are of content, but the last word of a window may be cut
    np.testing.assert_allclose(found(right, "share", word_class="content"), (110 - 5) / 220)
    other = look(
        wrong, PosDepth(positions=EVERY, ranks=(1,), kept="incorrect"), tmp_path / "b", rising_words()
    )
    assert found(other, "onset", word_class="content", definition="first", k=1) == 4
    assert np.isnan(found(other, "onset", word_class="function", definition="first", k=1))
    true = look(
        wrong,
        PosDepth(positions=EVERY, ranks=(1,), kept="all", target="true"),
        tmp_path / "c",
        rising_words(),
    )
    assert found(true, "onset", word_class="function", definition="first", k=1) == 2
    # the true word of content never comes: it counts as the last state, and as censored
    assert found(true, "onset", word_class="content", definition="first", k=1) == 6
    assert found(true, "onset_censored", word_class="content", definition="first", k=1) == 1
    assert np.isnan(found(true, "onset_dropped", word_class="content", definition="first", k=1))


def tags_of(path: Path, texts: list[str], function: str, content: str) -> str:
    rows = [
        {
            "id": f"text-{k:04d}",
            "words": t.split(),
            "tags": [function if w in FUNCTION else content for w in t.split()],
        }
        for k, t in enumerate(texts)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_classes_are_those_of_the_tags_that_are_given(tmp_path: Path) -> None:
    swapped = tags_of(tmp_path / "tags.jsonl", rising_words(), "VERB", "ADP")
    asked = PosDepth(positions=EVERY, ranks=(1,), tagger="precomputed", tags=swapped)
    result = look(speaking(EARLY_AND_LATE), asked, tmp_path, rising_words())
    assert found(result, "onset", word_class="VERB", definition="first", k=1) == 2
    assert found(result, "difference", definition="first", k=1) == -3
    with pytest.raises(UnknownName, match=r"document in tags\.jsonl"):
        look(speaking(EARLY_AND_LATE), asked, tmp_path / "b", rising_words(11))


def test_paper_mode_reads_lines_up_to_the_first_word_of_a_class(tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("\n".join(" ".join(WORDS[k : k + 20]) for k in range(30)), encoding="utf-8")
    asked = PosDepth(mode="paper", ranks=(1,), source=str(source), prompts=20, kept="all")
    material = asked.needs(speaking({}).anatomy).material
    assert material is not None
    windows = material.windows(speaking({}), 0).items
    for window in windows:
        said = [WORDS[i - 3] for i in window.ids]
        assert window.marks == (len(window.ids) - 1,)
        assert len(" ".join(said)) >= 17
        assert window.about["word_class"] in ("CONTENT", *taggers.FUNCTION)
        assert window.about["answers"] == [3 + WORDS.index(window.about["word"])]
        assert window.about["answers"][0] == window.ids[-1] + 1
        assert window.about["word"] not in said
    result = look(speaking(EARLY_AND_LATE), asked, tmp_path, rising_words())
    assert found(result, "onset", word_class="function", definition="first", k=1) == 2
    assert found(result, "accuracy", word_class="function") == 1
    # every line holds a word of content within its first 17 characters, so no prompt ends before the first one
    assert np.isnan(found(result, "onset", word_class="content", definition="first", k=1))


def test_the_matched_difference_is_free_of_what_the_final_probability_explains() -> None:
    """Sure words come at state 1 and unsure ones at 5, whatever their class; function words are sure more often."""
    generator = np.random.default_rng(0)
    function = np.arange(400) % 2 == 0
    sure = generator.random(400) < np.where(function, 0.8, 0.3)
    onset = np.where(sure, 1, 5)[:, None, None] * np.ones((1, 3, 1), int)
    columns = {
        "unit": np.asarray([f"d{k % 10}" for k in range(400)]), "onset": onset, "correct": np.ones(400, bool),
        "entropy": np.zeros(400), "probability": np.where(sure, 0.9, 0.2), "token": np.arange(400),
        "position": np.arange(400),
    }  # fmt: skip
    labels = np.where(function, "DET", "CONTENT")
    facts = Facts(6, 1, 1, ("attention",) * 6, (None,) * 6, True, False, False, True, "documents", 0)
    items = ClassOnsets(
        columns, labels, np.ones(400, bool), taggers.TAGS["lexicon"], (1,), facts
    ).measurements()
    expected = onset[~function].mean() - onset[function].mean()
    np.testing.assert_allclose(items["difference"].at(definition="first", k=1), expected)
    assert items["difference"].low[0, 0] > 1
    np.testing.assert_allclose(items["difference_matched"].at(definition="first", k=1), 0, atol=1e-12)
    assert items["onset_by_probability"].at(word_class="DET", bucket=0.75) == 1
    assert items["onset_by_probability"].at(word_class="DET", bucket=0.0) == 5
    assert items["types"].at(word_class="DET") == 200


# ------------------------------------------------------------------------------------------------ independent formula

TEXTS = [
    f"{name} took {'the tide and ' * (1 + k % 3)}{k * k} boats."
    for k, name in enumerate(["ada", "bo", "cyd", "dag", "eli", "fay", "gus", "hal"])
]


def windows_read(model: Model, tokens: int = 300) -> Windows:
    from depthscope.engine.reading import Reading

    return Reading(text=TEXTS, tokens=tokens, window=40).windows(model)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_onsets_by_class_equal_a_search_position_by_position(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=3)
    windows = windows_read(model)
    rows = []
    for document in windows.documents:
        ids = [i for w in windows.items if w.document == document for i in w.ids]
        letters = list(model.tokenizer.decode(ids))
        rows.append(
            {"id": document, "words": letters, "tags": ["DET" if ord(c) % 2 else "NOUN" for c in letters]}
        )
    tags = tmp_path / "tags.jsonl"
    tags.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    asked = PosDepth(tagger="precomputed", tags=str(tags), kept="all", ranks=(1, 4), positions=120)
    result = audit(model, [asked], out=tmp_path / "run", text=TEXTS, tokens=300, window=40)["pos_depth"]
    expected = by_search(model, kind, windows, 120)
    for tag, group in (("DET", "function"), ("NOUN", "content")):
        for k, rank in enumerate((1, 4)):
            for d, definition in enumerate(("first", "stable", "persistent")):
                for name in (tag, group):
                    got = found(result, "onset", word_class=name, definition=definition, k=rank)
                    np.testing.assert_allclose(got, np.mean(expected[tag][:, d, k]), rtol=1e-12)
    gap = expected["NOUN"].mean(0) - expected["DET"].mean(0)
    np.testing.assert_allclose(value(result, "difference"), gap, rtol=1e-9, atol=1e-12)


def by_search(model: Model, kind: str, windows: Windows, positions: int) -> dict[str, np.ndarray]:
    """Class -> onsets [item, definition, k] from whole softmaxes, by the definitions as they read."""
    plain = Plain(model.net, kind)
    ids = [w.ids for w in windows.items]
    at = sampled(windows, positions, seed=0)
    lens = lens_of(plain, [plain.run(row) for row in ids], ids, at)
    coming = [(w, p + 1) for w, places in at.items() for p in places]
    top, last = lens.log_p[-1].argmax(-1), len(lens.log_p) - 1
    onsets: dict[str, list[list[list[int]]]] = {"DET": [], "NOUN": []}
    for item, (window, place) in enumerate(coming):
        if place == len(ids[window]) - 1:
            continue  # the last word of a window may be cut: it has no class
        letter = model.tokenizer.decode([ids[window][place]])
        row = lens.log_p[:, item]
        rank = [1 + int((row[s] > row[s, top[item]]).sum()) for s in range(last + 1)]
        found = []
        for k in (1, 4):
            hit = [r <= k for r in rank]
            first = min((s for s in range(last + 1) if hit[s]), default=last)
            stable = min((s for s in range(last + 1) if all(hit[s:])), default=last)
            twice = min((s for s in range(last + 1) if all(hit[s : s + 2])), default=last)
            found.append([first, stable, twice])
        onsets["DET" if ord(letter) % 2 else "NOUN"].append(np.transpose(found).tolist())
    return {tag: np.asarray(rows) for tag, rows in onsets.items()}


# -------------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tagger": "lexicn"}, "unknown value of tagger 'lexicn'; did you mean 'lexicon'"),
        ({"mode": "papr"}, "unknown value of mode 'papr'; did you mean 'paper'"),
        ({"kept": "right"}, "unknown value of kept 'right'"),
        ({"mode": "paper", "target": "true"}, "target=true needs mode=natural"),
        ({"ranks": (10, 1)}, "rising ranks"),
        ({"ranks": (0,)}, "rising ranks"),
    ],
)
def test_wrong_parameters_are_told(wrong: dict, message: str) -> None:
    with pytest.raises((BadInput, UnknownName), match=message):
        PosDepth(**wrong)


def test_models_without_a_next_token_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no next word"):
        audit(
            tiny("bert", torch.float32), [PosDepth()], out=tmp_path / "run", text=TEXTS, tokens=300, window=24
        )
    assert not (tmp_path / "run").exists()


def test_missing_taggers_are_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    taggers.tagger.cache_clear()
    for asked, error in (
        (PosDepth(tagger="spacy"), MissingPackage),
        (PosDepth(tagger="precomputed", tags="nowhere.jsonl"), BadInput),
    ):
        with pytest.raises(error):
            audit(tiny("llama"), [asked], out=tmp_path / "run", text=TEXTS, tokens=300, window=24)
        assert not (tmp_path / "run").exists()


class Backwards(Words):
    """A tokenizer that writes its tokens the other way round, so no text is how a longer one begins."""

    def decode(self, ids: Sequence[int] | int) -> str:
        return super().decode(list(reversed([ids] if isinstance(ids, int) else list(ids))))


def test_a_tokenizer_without_offsets_is_refused(tmp_path: Path) -> None:
    model = replace(speaking(EARLY_AND_LATE), tokenizer=Backwards())
    with pytest.raises(Refused, match="tokenizer without offsets: Backwards"):
        look(model, PosDepth(positions=EVERY, ranks=(1,)), tmp_path, rising_words())


def test_prompts_need_lines_with_words_behind_17_characters(tmp_path: Path) -> None:
    source = tmp_path / "short.txt"
    source.write_text("too short\n" * 20, encoding="utf-8")
    with pytest.raises(BadInput, match="no line with 17 characters"):
        WordPrompts(source=str(source)).windows(speaking({}), 0)


def test_prompts_of_the_packaged_sample_are_many_and_the_same_for_equal_seeds() -> None:
    model = tiny("llama")
    first, again, other = (WordPrompts(limit=5).windows(model, seed) for seed in (0, 0, 1))
    assert first.hash == again.hash != other.hash
    counts = {tag: sum(w.about["word_class"] == tag for w in first.items) for tag in taggers.TAGS["lexicon"]}
    assert counts["CONTENT"] <= counts["DET"] == 5
    assert {d.name for d in read(None)[1]} >= set(first.documents)


def test_labels_that_start_no_word_are_labels_of_every_tagger() -> None:
    for name in taggers.TAGS:
        assert PosDepth(tagger=name).labels[-len(NO_WORD) :] == NO_WORD


def test_says_is_the_planted_answer() -> None:
    """The planted model's own check: with the answer written at layer 0 the next id of a rising text is predicted."""
    model = speaking({0: says(lambda t: t.roll(1, -1), 10.0)})
    ids = torch.tensor([[10, 11, 12, 13]])
    assert model.net(ids).logits.argmax(-1)[0].tolist() == [11, 12, 13, 14]
