"""The head that fetches a hidden answer is found, and without it there is no answer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import look
from wired_heads import planted_heads

from depthscope.analyses.retrieval_ablation import RetrievalAblation
from depthscope.analyses.retrieval_heads import RetrievalHeads
from depthscope.engine.audit import audit
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run

TEXTS = ["the tide came in and went out " * 4 for _ in range(9)]
NEEDLES = [
    ("Ada keeps her key", "under blue stones outside"),
    ("Bo hides some bread", "behind that tall mirror"),
    ("Cyd paints old whales", "with green silk threads"),
    ("Dag feeds two parrots", "on warm honey cakes"),
]
FETCHES = (1, 0)
SIZE, LENGTH = 128, 24


class Words:
    """One id a word with the space before it, in the order of first use: few ids, and text that can be read again."""

    bos_token_id = 1

    def __init__(self) -> None:
        self.known = ["<pad>", "<bos>", "<eos>"]

    def __len__(self) -> int:
        return SIZE

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        del add_special_tokens
        found = re.findall(r" ?\w+|[^\w]", text)
        self.known += [word for word in dict.fromkeys(found) if word not in self.known]
        assert len(self.known) < SIZE  # the wired heads take the last number for no token
        return [self.known.index(word) for word in found]

    def decode(self, ids: list[int] | int) -> str:
        return "".join(self.known[i] if i < len(self.known) else "?" for i in np.atleast_1d(ids))

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.decode(i) for i in ids]


def wired(heads: dict[tuple[int, int], str]) -> Model:
    return replace(planted_heads(heads, size=SIZE), tokenizer=Words())


PAIR = {(0, 0): "previous", FETCHES: "induction"}
TEACHER = {"lengths": (LENGTH,), "depths": (0.0, 1.0), "echo": 6, "echoes": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Needles of words that come once, and hay without them."""
    folder = tmp_path_factory.mktemp("needles")
    rows = [{"needle": f"{a} {b}.", "question": "which", "answer": b} for a, b in NEEDLES]
    (folder / "needles.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "hay.txt").write_text("hay " * 40)
    return {"source": str(folder / "needles.jsonl"), "haystack": str(folder / "hay.txt")}


@pytest.fixture(scope="module")
def run(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = wired(PAIR)
    heads = RetrievalHeads(**files, **TEACHER)
    ablation = RetrievalAblation(
        **files,
        lengths=(LENGTH,),
        depths=(0.0, 1.0),
        sizes=(1,),
        modes=("uniform", "stream", "mean/all", "stream/all"),
        draws=2,
        recent=4,
    )
    out = tmp_path_factory.mktemp("run") / "run"
    return audit(model, [heads, ablation], out=out, text=TEXTS, tokens=10**6, window=24, force=True)


@pytest.fixture(scope="module")
def result(run: Run) -> Result:
    return run["retrieval_heads"]


def test_the_fetching_head_copies_every_token_and_no_other_head_any(result: Result) -> None:
    for name in ("retrieval", "needle_mass", "activation_frequency"):
        assert result[name].value[FETCHES] == pytest.approx(1, abs=1e-6)
    others = result["retrieval"].value.copy()
    others[FETCHES] = 0
    assert others.max() <= 0.25  # the last token of an answer may be where an even head looks first
    assert result["token_accuracy"].value.tolist() == [[1, 1]]
    assert result["exact"].value.tolist() == [[1, 1]]


def test_free_decoding_gives_the_same_where_the_model_answers_right(
    files: dict[str, str], result: Result, tmp_path: Path
) -> None:
    model = wired(PAIR)
    free = look(model, RetrievalHeads(**files, **TEACHER, decoding="free"), tmp_path, TEXTS)
    assert free["accepted"].value.tolist() == [[1, 1]]
    assert free["retrieval"].value[FETCHES] == pytest.approx(1)


def test_a_model_that_does_not_answer_has_no_test_that_counts(files: dict[str, str], tmp_path: Path) -> None:
    free = look(
        wired({(0, 0): "previous"}),
        RetrievalHeads(**files, **TEACHER, decoding="free"),
        tmp_path,
        TEXTS,
    )
    assert free["accepted"].value.tolist() == [[0, 0]]
    assert np.isnan(free["retrieval"].value).all()


def test_echo_and_its_choice_of_caches(result: Result) -> None:
    # the first copy is not counted; the induction head looks behind the token, never at it
    assert result["echo_induction"].value[FETCHES] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=0.02)
    assert result["echo"].value[FETCHES] == pytest.approx(0, abs=1e-6)
    kept = result["full_cache"].value
    assert kept[FETCHES] == 1
    assert kept.sum() <= 2
    size = result["cache"]
    # 2 layers of 4 heads of 128 numbers, keys and values in 16 bits
    assert size.at(variant="all", length=1024) == 1024 * 2 * 4 * 2 * 128 * 2
    streams = 8 - kept.sum()
    expected = (kept.sum() * 8192 + streams * 320) * 2 * 128 * 2
    assert size.at(variant="streaming", length=8192) == expected


def test_without_the_fetching_head_no_answer_is_written_and_controls_cost_nothing(run: Run) -> None:
    found = run["retrieval_ablation"]
    assert found["intact_recall"].scalar() == 1
    for mode in ("uniform", "stream", "mean/all", "stream/all"):
        assert found["recall"].at(mode=mode, criterion="retrieval", k=1) == 0
        assert found["recall"].at(mode=mode, criterion="streaming", k=1) == 1
        assert found["margin"].at(mode=mode, criterion="streaming", k=1) == 1
    random = found["recall"].select(criterion="random", k=1).value
    # the head that carries tokens on is needed while the prompt is read, and not behind it
    assert random.tolist() == [1, 1, 0.5, 1]
    counts = found["recall"].n_items
    assert counts is not None
    assert counts[0, :, 0].tolist() == [4, 8, 8, 4]  # 2 needles at 2 depths, two draws of two controls
    kinds = found["answer_kind"]
    assert kinds.at(criterion="random", k=1, option="right") == 1
    assert kinds.value.sum(-1) == pytest.approx(np.ones((4, 1)))


def test_a_cache_that_keeps_the_fetching_head_whole_still_answers(run: Run) -> None:
    found = run["retrieval_ablation"]["policy_recall"]
    assert found.at(policy="razor") == 1
    assert found.at(policy="razor_bare") == 1
    assert found.at(policy="streaming") < 0.5


def test_a_needle_behind_the_window_has_no_score_there(tmp_path: Path, files: dict[str, str]) -> None:
    model = tiny("gemma2")
    asked = RetrievalHeads(**files, **TEACHER | {"lengths": (50,)})
    found = look(model, asked, tmp_path, TEXTS)["retrieval"]
    local = [window is not None for window in model.anatomy.window_of_layer]
    np.testing.assert_array_equal(np.isnan(found.value).all(1), local)
    assert "window" in found.missing


def test_what_cannot_be_asked_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no answer follows a question"):
        RetrievalHeads().needs(tiny("bert").anatomy)
    with pytest.raises(Refused, match="keep more than keys and values"):
        RetrievalAblation().needs(tiny("jamba").anatomy)
    with pytest.raises(UnknownName, match="teacher"):
        RetrievalHeads(decoding="teached").needs(tiny("llama").anatomy)
    with pytest.raises(BadInput, match="modes=\\('gone',\\)"):
        RetrievalAblation(modes=("gone",)).needs(tiny("llama").anatomy)
    same = [RetrievalHeads(**files, **TEACHER), RetrievalAblation(**files, lengths=(LENGTH,), part="even")]
    with pytest.raises(BadInput, match="chose its heads by the even needles"):
        audit(
            wired({}),
            same,
            out=tmp_path / "r",
            text=TEXTS,
            tokens=500,
            window=24,
            force=True,
        )
