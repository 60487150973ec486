"""Prompts, what is said of them, and their three changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from depthscope.errors import BadInput
from depthscope.materials.prompt_features import FEATURES, described
from depthscope.materials.prompt_variants import CHANGES, SHOWN, PromptVariants
from depthscope.materials.window import Material
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama")
STEM = "A line about the sea, the harbour and its birds that is long enough to be kept"


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    rows = [f'{{"text": "{STEM}{"." * k}", "kind": "k{k % 2}"}}\n' for k in range(6)]
    path.write_text("".join(rows), "utf-8")
    return str(path)


def test_every_prompt_has_its_changes_beside_it(text: str):
    material = PromptVariants(text, 9, 90, whole=True, label="kind")
    assert isinstance(material, Material)
    items = material.windows(MODEL, 0).items
    newline = MODEL.tokenizer.encode("\n")
    lengths = sorted(len(w.ids) for w in items if w.about["variant"] == "as_is")
    common = lengths[1]  # the lower quarter of 6 lengths, rounded down: index 1
    for number in range(6):
        own = {w.about["variant"]: w for w in items if w.about["prompt"] == number}
        plain = own["as_is"].ids
        assert own["newline"].ids == (*newline, *plain)
        assert own["drop_first"].ids == plain[1:]
        assert ("equal_length" in own) == (len(plain) >= common)
        if "equal_length" in own:
            assert own["equal_length"].ids == plain[:common]
        assert set(own) <= {"as_is", *CHANGES}
        about = own["as_is"].about
        assert about["shown"] == (STEM + "." * (len(plain) - len(STEM)))[:SHOWN]
        assert about["label"] == f"k{(len(plain) - len(STEM)) % 2}"
        assert tuple(about["features"]) == tuple(f for f in about["features"] if f in FEATURES)
        assert set(about["features"]) == set(FEATURES)
    assert [w.index for w in items] == list(range(len(items)))


def test_a_long_prompt_is_cut_so_that_a_newline_still_fits(text: str):
    items = PromptVariants(text, 3, 20, whole=True).windows(MODEL, 0).items
    assert {len(w.ids) for w in items if w.about["variant"] == "as_is"} == {19}
    assert max(len(w.ids) for w in items) == 20
    assert all(w.about["features"]["truncated"] == 1 for w in items if w.about["variant"] == "as_is")


class Spelled:
    """Ids are code points; 63, the question mark, stands for what is not known."""

    unk_token_id = 63

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_features_are_what_can_be_counted_by_hand():
    prompts = [
        ids("Aab, 12?é"),
        ids("aaaaaa"),
        ids("aaaaaa"),
        ids("7 birds."),
        ids("!abcdefg"),
        ids("Aabcdef"),
    ]
    documents = ["one", "two", "two", "four", "five", "six"]
    found = described(prompts, [True, *[False] * 5], documents, Spelled())
    expected = {
        "tokens": 9, "characters_per_token": 1, "type_token_ratio": 1, "top_token_share": 1 / 9,
        "digit_share": 2 / 9, "punctuation_share": 2 / 9, "non_ascii_share": 1 / 9, "unknown_share": 1 / 9,
        "first_is_capital": 1, "first_is_digit": 0, "first_is_other": 0, "first_token_share": 2 / 6, "truncated": 1,
        "duplicates": 0, "overlap": 0,
    }  # fmt: skip
    assert found[0] == pytest.approx(expected)
    assert [f["duplicates"] for f in found] == [0, 1, 1, 0, 0, 0]
    assert [f["first_is_digit"] for f in found] == [0, 0, 0, 1, 0, 0]
    assert [f["first_is_other"] for f in found] == [0, 0, 0, 0, 1, 0]
    # "abcde" and "bcdef" of 4 stretches of the fifth, of 3 of the sixth; the same document does not count
    np.testing.assert_allclose([f["overlap"] for f in found], [0, 0, 0, 0, 2 / 4, 2 / 3])
    assert found[1]["top_token_share"] == 1


def test_wrong_parameters_are_told():
    with pytest.raises(BadInput, match="prompts=0 must be 1 or more"):
        PromptVariants(prompts=0)
    with pytest.raises(BadInput, match=r"longest=5 \(tokens\) must be 6 or more"):
        PromptVariants(longest=5)
