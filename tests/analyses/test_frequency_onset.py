"""Frequency classes on a model that says one frequent token until a known layer, with a table that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import LENGTH, SAID, V, axis, constant, look, planted, rising, the_answer, value

from depthscope.analyses.decision_flips import DecisionFlips
from depthscope.analyses.frequency_onset import FrequencyOnset
from depthscope.engine.audit import audit
from depthscope.errors import BadInput, EmptyMaterial, Refused, UnknownName
from depthscope.materials.frequency import FrequencyTable, vocabulary
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import PlainTokenizer, tiny

FREQUENT, EDGES = 3, (4, 30)
NEXT = np.concatenate([np.arange(5 + 3 * k, 5 + 3 * k + LENGTH - 2) for k in range(10)])
"""The true next tokens of all positions that are decoded in ten rising texts."""


def falling(path: Path, size: int = V) -> str:
    """A table in which id k has rank k + 1."""
    counts = np.arange(size, 0, -1, dtype=np.int64) * 1000
    FrequencyTable(counts, vocabulary(PlainTokenizer(size))[0], "a planted corpus").save(path)
    return str(path)


def early_and_late() -> Model:
    """States 1 to 3 say the frequent token, states 4 to 6 the answer."""
    return planted({0: constant(axis(SAID.start + FREQUENT, 5.0)), 3: the_answer(20.0)})


def shares(ids: np.ndarray) -> np.ndarray:
    """Ranks are ids plus one, so buckets are ids up to 3, up to 29, and the rest."""
    return np.bincount(np.digitize(ids, (3.5, 29.5)), minlength=3) / len(ids)


def test_a_frequent_early_guess_fills_its_bucket_until_the_answer_comes(tmp_path: Path) -> None:
    asked = FrequencyOnset(positions=10**6, table=falling(tmp_path / "t.npz"), edges=EDGES)
    found = look(early_and_late(), asked, tmp_path, rising())
    assert found["share"].axes["bucket"].tolist() == ["1-4", "5-30", "rest"]
    share = value(found, "share")
    np.testing.assert_array_equal(share[1:4], [[1, 0, 0]] * 3)
    np.testing.assert_allclose(share[4:], [shares(NEXT)] * 3)
    np.testing.assert_allclose(share[0], shares(NEXT - 1))  # tied to the input: the current token
    np.testing.assert_allclose(share.sum(1), 1)
    np.testing.assert_allclose(value(found, "share_above_final"), share - share[-1], atol=1e-12)


def test_the_onset_of_a_bucket_is_where_half_of_its_final_share_is_reached(tmp_path: Path) -> None:
    asked = FrequencyOnset(positions=10**6, table=falling(tmp_path / "t.npz"), edges=EDGES)
    model = planted({0: constant(axis(SAID.start + FREQUENT, 5.0)), 3: the_answer(20.0)})
    with torch.no_grad():  # state 0 says nothing but the frequent token either
        model.net.model.embed_tokens.weight[:, SAID] = 0  # type: ignore[union-attr, operator, index]
        model.net.model.embed_tokens.weight[:, FREQUENT] = 1  # type: ignore[union-attr, operator, index]
    found = look(model, asked, tmp_path, rising())
    onset = found["onset"]
    np.testing.assert_array_equal(onset.value, [[np.nan, 4, 4]] * 2)
    assert "no final prediction" in onset.missing
    np.testing.assert_array_equal(onset.low, onset.value)
    np.testing.assert_array_equal(onset.n_items, len(NEXT))


def test_a_bucket_that_is_only_copied_at_first_has_a_later_stable_onset(tmp_path: Path) -> None:
    asked = FrequencyOnset(positions=10**6, table=falling(tmp_path / "t.npz"), edges=EDGES)
    onset = look(early_and_late(), asked, tmp_path, rising())["onset"]
    assert onset.at(definition="first", bucket="rest") == 0
    assert onset.at(definition="stable", bucket="rest") == 4


def test_without_a_table_the_text_itself_is_counted(tmp_path: Path) -> None:
    texts = rising()
    found = look(early_and_late(), FrequencyOnset(positions=10**6, edges=EDGES), tmp_path, texts)
    ids = np.concatenate([PlainTokenizer(V).encode(text) for text in texts])
    counts = np.bincount(ids, minlength=V)
    order = np.lexsort([np.arange(V), -counts])
    place = np.empty(V, int)
    place[order] = np.digitize(np.arange(1, V + 1), (4.5, 30.5))
    np.testing.assert_allclose(value(found, "corpus_share"), np.bincount(place, counts, 3) / len(ids))
    expected = np.bincount(place[NEXT], minlength=3) / len(NEXT)
    np.testing.assert_allclose(value(found, "share")[-1], expected)
    assert f"counted on {len(ids)} tokens" in found.findings.notes[0]
    assert "less than 5,000,000" in found.findings.notes[1]


def test_the_most_frequent_predictions_are_listed_by_state(tmp_path: Path) -> None:
    found = look(early_and_late(), FrequencyOnset(positions=10**6, top=5), tmp_path, rising())
    table = found.findings.examples["top_tokens"].to_dataframe()
    early = table[table["state"] == 2]
    assert early[["rank", "token_id", "token", "count", "share"]].values.tolist() == [
        [1, FREQUENT, PlainTokenizer(V).decode([FREQUENT]), len(NEXT), 1.0]
    ]
    late = table[table["state"] == 6]
    counts = np.bincount(NEXT, minlength=V)
    order = np.lexsort([np.arange(V), -counts])[:5]
    assert late["token_id"].tolist() == order.tolist()
    assert late["count"].tolist() == counts[order].tolist()


def test_fifths_of_the_mass_are_buckets_too(tmp_path: Path) -> None:
    found = look(early_and_late(), FrequencyOnset(positions=10**6, quintiles=True), tmp_path, rising())
    assert len(found["share"].axes["bucket"]) == 5
    np.testing.assert_allclose(value(found, "corpus_share"), 0.2, atol=0.05)


@pytest.mark.parametrize("analysis", [FrequencyOnset, DecisionFlips])
def test_a_table_of_another_tokenizer_is_refused(analysis: type, tmp_path: Path) -> None:
    larger, smaller = falling(tmp_path / "larger.npz", V + 7), falling(tmp_path / "smaller.npz", V - 7)
    with pytest.raises(Refused, match=r"larger.npz has 71 ids, the model 64"):
        look(planted({}), analysis(table=larger), tmp_path / "a", rising())
    assert not (tmp_path / "a").exists()
    with pytest.raises(Refused, match=r"its vocabulary has 57 ids .* this model's 64"):
        look(planted({}), analysis(table=smaller), tmp_path / "b", rising())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "papers"}, "unknown value of mode 'papers'; did you mean 'paper'"),
        ({"edges": (10, 10)}, "rising ranks"),
        ({"edges": ()}, "rising ranks"),
        ({"table": "nowhere.npz"}, "no data at nowhere.npz"),
        ({"mode": "paper", "prompts": 0}, "prompts=0 must be 1 or more"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_read(
    settings: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises((BadInput, UnknownName), match=message):
        look(planted({}), FrequencyOnset(**settings), tmp_path, rising())


def paragraphs(path: Path, marks: str = "") -> str:
    """A text of twelve articles, each one paragraph of 90 words."""
    words = [f"w{'abcdefgh'[k % 8]}{marks}" for k in range(90)]
    path.write_text(
        "\n".join(f"= {k} =\n\n{' '.join(words[k:] + words[:k])}x\n\n" for k in range(12)), "utf-8"
    )
    return str(path)


def test_paper_mode_decodes_the_last_position_of_each_prefix(tmp_path: Path) -> None:
    asked = FrequencyOnset(mode="paper", source=paragraphs(tmp_path / "text.txt"), prompts=30)
    run = audit(tiny("llama"), [asked], out=tmp_path / "run", tokens=300, window=32)
    found = run["frequency_onset"]
    assert found["share"].n_items.tolist() == [[30] * 4] * 5
    assert (found["share"].n <= 12).all()
    assert (tmp_path / "run" / "inputs" / "prefixes.parquet").exists()


def test_prefixes_followed_by_whitespace_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other token decodes to a blank, so prefixes that end in one are dropped from the shares."""

    def decode(self: PlainTokenizer, ids: list[int] | int) -> str:
        return " " if (ids if isinstance(ids, int) else ids[0]) % 2 else "word"

    monkeypatch.setattr(PlainTokenizer, "decode", decode)
    asked = FrequencyOnset(mode="paper", source=paragraphs(tmp_path / "text.txt"), prompts=40)
    found = audit(tiny("llama"), [asked], out=tmp_path / "run", tokens=300, window=32)["frequency_onset"]
    blank = found["blank_share"]
    assert 0 < blank.scalar() < 1
    assert blank.n_items == 40
    np.testing.assert_array_equal(found["share"].n_items, round(40 * (1 - blank.scalar())))


def test_a_text_of_nothing_but_blanks_after_prefixes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainTokenizer, "decode", lambda *_: " ")
    asked = FrequencyOnset(mode="paper", source=paragraphs(tmp_path / "text.txt"), prompts=5)
    with pytest.raises(EmptyMaterial, match="none of 5 prefixes"):
        audit(tiny("llama"), [asked], out=tmp_path / "run", tokens=300, window=32)
