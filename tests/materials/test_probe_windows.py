"""Windows that end at a probed position, with labels, split by document; and the inputs that are refused."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.probe_windows import ProbeWindows
from depthscope.materials.reserved import reserved
from depthscope.materials.reserved_text import ReservedText
from depthscope.materials.token_classes import CLASSES, Rule
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama")


def written(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def documents(per_label: int, labels: str = "abc", length: int = 90) -> list[dict[str, object]]:
    return [
        {"id": f"{label}{k}", "domain": label, "text": (f"{label}{k} speaks (so): " * 20)[:length]}
        for label in labels for k in range(per_label)
    ]  # fmt: skip


def test_no_document_stands_on_two_sides_and_every_label_is_on_all(tmp_path: Path) -> None:
    source = written(tmp_path / "d.jsonl", documents(10))
    found = ProbeWindows(source, window=24, per_document=3, reserve=0.0).windows(MODEL, 0)
    sides = defaultdict(set)
    for window in found.items:
        sides[window.document].add(window.about["split"])
    assert {len(each) for each in sides.values()} == {1}
    counts = Counter((w.about["label"], w.about["split"]) for w in found.items)
    assert counts == {
        (label, part): 3 * n for label in "abc" for part, n in (("train", 6), ("validation", 2), ("test", 2))
    }
    assert {len(w.ids) for w in found.items} == {24}
    assert found.items == ProbeWindows(source, window=24, per_document=3, reserve=0.0).windows(MODEL, 0).items
    assert found.items != ProbeWindows(source, window=24, per_document=3, reserve=0.0).windows(MODEL, 1).items


def test_the_class_is_that_of_the_token_at_the_position_or_of_the_one_behind_it(tmp_path: Path) -> None:
    source = written(tmp_path / "d.jsonl", documents(5))
    for shift, at in ((0, [12, 16, 19, 23]), (1, [12, 15, 19, 22])):
        for window in ProbeWindows(source, window=24, shift=shift, reserve=0.0).windows(MODEL, 0).items:
            assert window.about["probed"] == at
            texts = [MODEL.tokenizer.decode(window.ids[p + shift]) for p in at]
            assert window.about["texts"] == texts
            assert [CLASSES[k] for k in window.about["types"]] == [Rule().of(text) for text in texts]
    assert ProbeWindows(window=24, probed=1).positions() == [23]


def test_only_documents_that_nothing_is_trained_on_are_probed(tmp_path: Path) -> None:
    rows = documents(40)
    source = written(tmp_path / "d.jsonl", rows)
    found = ProbeWindows(source, window=24).windows(MODEL, 0)
    kept = {f"{row['id']}#{n:06d}" for n, row in enumerate(rows) if reserved(str(row["text"]))}
    assert set(found.documents) == kept
    assert 20 < len(kept) < 60
    judged = ReservedText(source, tokens=10**6, window=24).windows(MODEL, 0)
    assert set(judged.documents) == {name.partition("#")[0] for name in kept}
    assert [w.index for w in judged.items] == list(range(len(judged.items)))


def test_a_label_with_too_few_long_documents_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [*documents(5), *documents(2, "d"), *documents(9, "e", 10)]
    found = ProbeWindows(written(tmp_path / "d.jsonl", rows), window=24, reserve=0.0).windows(MODEL, 0)
    assert {w.about["label"] for w in found.items} == {"a", "b", "c"}
    assert found.source.endswith("left out, fewer than 3 documents of 24 tokens: d, e")


def test_equal_texts_are_read_once_and_a_label_gives_no_more_than_asked(tmp_path: Path) -> None:
    rows = documents(12)
    found = ProbeWindows(written(tmp_path / "d.jsonl", [*rows, *rows]), window=24, per_label=7, reserve=0.0)
    windows = found.windows(MODEL, 0)
    assert Counter(w.about["label"] for w in windows.items) == {"a": 7, "b": 7, "c": 7}
    assert len({w.ids for w in windows.items}) == 21


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([{"text": "no label at all"}] * 5, BadInput, "has no label: it has text; name the key"),
        (documents(5, "a"), BadInput, "every document has the domain 'a'; a probe needs two labels"),
        (documents(5, "ab", 20), EmptyMaterial, "none of 10 documents has the 24 tokens of a window"),
        ([*documents(5, "a"), *documents(2, "b")], BadInput, "1 of 2 labels have 3 documents of 24 tokens"),
        ([{"text": 3, "domain": "a"}, {"text": "x", "domain": "b"}], BadInput, "a text is a string, not int"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_told(
    rows: list[dict[str, object]], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        ProbeWindows(written(tmp_path / "d.jsonl", rows), window=24, reserve=0.0).windows(MODEL, 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": 3}, "window=3 must be 4 or more"),
        ({"probed": 40, "window": 64}, "half of a window has 32 positions"),
        ({"held_out": 0.5}, "above 0 and at most 0.4"),
        ({"shift": 2}, "0 is the token at the position"),
        ({"reserve": 1.0}, r"reserve=1\.0 \(share of the documents\) must be at least 0 and below 1"),
    ],
)
def test_wrong_parameters_are_told(given: dict[str, float], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ProbeWindows(**given)  # type: ignore[arg-type]


def test_reserved_text_says_what_it_lacks(tmp_path: Path) -> None:
    source = written(tmp_path / "d.jsonl", documents(20))
    with pytest.raises(EmptyMaterial, match="no reserved document has the 500 tokens of a window"):
        ReservedText(source, window=500).windows(MODEL, 0)
    with pytest.raises(BadInput, match=r"share=0\.0 \(share of the documents\) must be above 0 and below 1"):
        ReservedText(source, share=0.0)
