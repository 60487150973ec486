"""Encoders: a state cut out of a model gives, through sentence-transformers, the vectors it has inside."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from letters import lettered, letters
from numpy.testing import assert_allclose

from depthscope.advise import layer_modules
from depthscope.advise.layer_affine import fitted, parsed
from depthscope.advise.layer_export import PROBES, export_encoder
from depthscope.advise.layer_recipe import Recipe
from depthscope.errors import BadInput, LawBroken, MissingPackage, Refused, StoreFull, UnknownName
from depthscope.runtime.model import Model

TEXTS = [f"text {k} about {k * 7 % 11}, no. {k * k}" for k in range(24)]
FEW = list(PROBES[:5])


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Loaded where it is used: collecting tests in every worker would pay for it."""
    pytest.importorskip(
        "sentence_transformers", reason="encoders are written and read by sentence-transformers (extra: eval)"
    )


def reopened(folder: Path) -> Any:
    """The encoder as its users load it."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def llama() -> Model:
    return lettered("llama")


@torch.no_grad()
def plainly(model: Model, text: str, state: int, norm: bool) -> np.ndarray:
    """The mean over tokens of a state, by the network's own list of states, which begins with the embedding."""
    net = cast(Any, model.net).base_model
    ids = torch.tensor([model.tokenizer.encode(text)])
    causal = {"use_cache": False} if model.anatomy.family.causal else {}
    vectors = net(input_ids=ids, output_hidden_states=True, **causal).hidden_states[state]
    after: Any = model.anatomy.final_norm if norm else None
    return (vectors if after is None else after(vectors)).mean(1)[0].numpy()


@pytest.mark.parametrize(
    ("family", "state", "norm"),
    [
        ("llama", 2, True), ("llama", 1, False), ("gpt2", 3, True), ("bert", 2, True),
        ("gemma3_text", 5, True), ("gemma3_text", 2, False), ("qwen3_next", 3, True),
    ],
)  # fmt: skip
def test_the_library_gives_the_state_inside(family: str, state: int, norm: bool, tmp_path: Path):
    model = lettered(family)
    found = export_encoder(model, Recipe(state, norm=norm), tmp_path / "out", probes=FEW)
    net = reopened(tmp_path / "out")
    outside = net.encode(FEW, show_progress_bar=False)
    assert_allclose(outside, [plainly(model, text, state, norm) for text in FEW], rtol=0, atol=1e-5)
    assert max(found.checks.difference, found.checks.batches) < 1e-5
    assert found.checks.order == pytest.approx(1.0)
    blocks = state + (not norm and family != "bert")
    assert net[0].model.config.num_hidden_layers == blocks < model.anatomy.n_layers


@pytest.mark.parametrize("norm", [True, False])
def test_a_state_space_model_lists_its_states_from_block_0_and_is_cut_right(norm: bool, tmp_path: Path):
    model = lettered("mamba")
    export_encoder(model, Recipe(2, "last", norm=norm), tmp_path / "out", probes=FEW)
    outside = reopened(tmp_path / "out").encode(FEW, show_progress_bar=False)
    kept: list[torch.Tensor] = []
    block, after = model.anatomy.layers[1].block, cast(Any, model.anatomy.final_norm)
    hook = block.register_forward_hook(lambda *call: kept.append(call[-1]))
    with torch.no_grad():
        for text in FEW:
            cast(Any, model.net)(input_ids=torch.tensor([model.tokenizer.encode(text)]), use_cache=False)
        wanted = torch.cat([(after(x) if norm else x)[:, -1] for x in kept])
    hook.remove()
    assert_allclose(outside, wanted.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "first", "weighted_mean"])
def test_each_pooling_is_that_of_the_library(llama: Model, pooling: str, tmp_path: Path):
    found = export_encoder(llama, Recipe(2, pooling), tmp_path / "out", probes=FEW)
    assert found.checks.difference < 1e-6


def test_the_embeddings_alone_are_a_table_with_the_norm_in_it(llama: Model, tmp_path: Path):
    found = export_encoder(llama, Recipe(0), tmp_path / "out", probes=FEW)
    assert found.checks.difference < 1e-6
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [m["type"].rsplit(".")[-1] for m in modules] == ["StaticEmbedding"]


@pytest.mark.parametrize("post", ["center", "abtt-2", "pca-4", "whiten-4"])
def test_what_stands_behind_pooling_is_one_affine_map_fitted_without_labels(
    llama: Model, post: str, tmp_path: Path
):
    found = export_encoder(
        llama,
        Recipe(2, post=post, unit=post == "pca-4"),
        tmp_path / "out",
        texts=[*TEXTS, *TEXTS],
        probes=FEW,
    )
    net = reopened(tmp_path / "out")
    outside = net.encode(TEXTS, show_progress_bar=False).astype(np.float64)
    assert found.fitted_on == len(TEXTS)  # of each text one copy counts
    assert outside.shape[1] == found.width
    if post == "pca-4":
        assert_allclose(np.linalg.norm(outside, axis=1), 1.0, atol=1e-5)
        return
    assert_allclose(outside.mean(0), 0.0, atol=1e-5)
    spectrum = np.linalg.svd(outside - outside.mean(0), compute_uv=False)
    if post == "abtt-2":
        before = np.asarray([plainly(llama, text, 2, True) for text in TEXTS], np.float64)
        whole = np.linalg.svd(before - before.mean(0), compute_uv=False)
        assert_allclose(spectrum[:5], whole[2:7], rtol=1e-3)
    if post == "whiten-4":
        assert_allclose(spectrum, np.sqrt(len(TEXTS) - 1), rtol=1e-3)


def test_long_texts_are_cut_alike_inside_and_outside(tmp_path: Path):
    model = lettered("llama", letters(framed=True))
    found = export_encoder(model, Recipe(2, max_tokens=16), tmp_path / "out", probes=["x" * 100, *FEW])
    assert found.checks.difference < 1e-6
    net = reopened(tmp_path / "out")
    assert net.max_seq_length == 16


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_on_the_right(tmp_path: Path):
    model = lettered("llama", letters(pad=None))
    model.tokenizer.padding_side = "left"
    export_encoder(model, Recipe(1), tmp_path / "out", probes=FEW)
    tokenizer = reopened(tmp_path / "out").tokenizer
    assert (tokenizer.pad_token, tokenizer.padding_side) == ("</s>", "right")
    assert model.tokenizer.pad_token is None


def test_the_folder_says_what_it_is_and_where_it_came_from(llama: Model, tmp_path: Path):
    export_encoder(llama, Recipe(2), tmp_path / "out", probes=FEW, findings="- It scores 0.5.")
    about = json.loads((tmp_path / "out" / "depthscope.json").read_text())
    assert (about["base"]["name"], about["base"]["revision"], about["recipe"]["state"]) == (
        "tiny-llama",
        "r1",
        2,
    )
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ('base_model: "tiny-llama"', 'license: "apache-2.0"', "after 2 of 4 blocks", "- It scores 0.5.",
                 "weights random-llama", "library_name: sentence-transformers"):  # fmt: skip
        assert said in card
    assert not (tmp_path / "out" / "source").exists()


def test_an_encoder_with_other_vectors_is_not_left_behind(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(layer_modules, "truncated", lambda model, blocks: _cut(model, blocks - 1))
    with pytest.raises(LawBroken, match=r"gives other vectors than its state 2: they differ by \d"):
        export_encoder(llama, Recipe(2), tmp_path / "out", probes=FEW)
    assert list(tmp_path.iterdir()) == []


_cut = layer_modules.truncated


@contextmanager
def room(limit: int) -> Generator[None]:
    """Files may not grow beyond some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [200, 3_000, 20_000], ids=["configuration", "tokenizer", "weights"])
def test_a_disk_that_fills_leaves_nothing(llama: Model, tmp_path: Path, limit: int):
    with room(limit), pytest.raises(StoreFull, match="File too large"):
        export_encoder(llama, Recipe(2), tmp_path / "out", probes=FEW)
    assert list(tmp_path.iterdir()) == []


def test_requests_that_cannot_be_met_are_refused_before_anything_is_written(llama: Model, tmp_path: Path):
    out = tmp_path / "out"
    refused: list[tuple[Model, Recipe, type[Exception], str]] = [
        (llama, Recipe(5), BadInput, "states 0 to 4, not 5"),
        (llama, Recipe(2, "men"), UnknownName, "did you mean 'mean'"),
        (llama, Recipe(2, "mean_no_first"), Refused, "has no pooling like 'mean_no_first'"),
        (llama, Recipe(4, norm=False), Refused, "no further block whose input"),
        (llama, Recipe(2, post="pca"), BadInput, "it is none, center"),
        (llama, Recipe(2, post="pca-33"), BadInput, "more directions than the 32"),
        (llama, Recipe(0, "last"), Refused, "averaged, not pooled by 'last'"),
        (lettered("gpt2"), Recipe(0), Refused, "depends on the position too"),
        (lettered("llama", letters(framed=True)), Recipe(0), Refused, "adds ids of its own"),
        (lettered("zamba2"), Recipe(2), Refused, "call the shared transformer"),
        (
            lettered("llama", dtype=torch.bfloat16),
            Recipe(2, post="center"),
            Refused,
            "load the model with dtype float32",
        ),
        (lettered("llama", letters(pad=None, eos=None)), Recipe(2), Refused, "no token that could pad"),
    ]
    for model, recipe, kind, message in refused:
        with pytest.raises(kind, match=message):
            export_encoder(model, recipe, out, texts=TEXTS, probes=FEW)
        assert list(tmp_path.iterdir()) == []
    out.mkdir()
    with pytest.raises(BadInput, match="exists already"):
        export_encoder(llama, Recipe(2), out)


def test_a_tokenizer_that_cannot_be_saved_is_refused(tmp_path: Path):
    from depthscope.runtime.tiny import tiny

    with pytest.raises(Refused, match="is no tokenizer of transformers"):
        export_encoder(tiny("llama", torch.float32), Recipe(2), tmp_path / "out", probes=FEW)


def test_without_the_library_the_command_that_installs_it_is_named(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingPackage, match=r"pip install 'depthscope\[eval\]'"):
        export_encoder(llama, Recipe(2), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_affine_words_are_read_or_refused():
    assert parsed("abtt") == ("abtt", 0)
    assert parsed("whiten-12") == ("whiten", 12)
    for wrong in ("pca-0", "pca-x", "center-2", "zca-3", "pca"):
        with pytest.raises(BadInput, match="cannot stand behind pooling"):
            parsed(wrong)
    same = np.ones((5, 4), np.float32)
    with pytest.raises(BadInput, match="1 different ones are not enough"):
        fitted("center", same)
    with pytest.raises(BadInput, match="2 texts span 1"):
        fitted("pca-2", np.eye(4, dtype=np.float32)[:2])
