"""What a vector says, by hand; and another vector that says the same: all tokens give the vector back."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.runtime.tiny import tiny
from depthscope.runtime.vocabulary_match import rebuilt, said


def drawn(width: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_vector_says_the_softmax_of_its_norm_through_the_unembedding(family: str):
    model = tiny(family)
    vector, net = drawn(model.anatomy.d_model), model.net
    norm = net.model.norm if family == "llama" else net.transformer.ln_f  # type: ignore[union-attr]
    with torch.no_grad():
        logits = net.lm_head(norm(vector))  # type: ignore[operator]
    assert_close(said(model, vector), torch.softmax(logits, -1), rtol=1e-9, atol=1e-12)


def test_a_vector_that_says_the_same_of_all_tokens_is_the_vector_itself():
    model = tiny("llama")
    vector = 5 * drawn(model.anatomy.d_model)
    found = rebuilt(model, vector, words=0, steps=400)
    assert found.divergence < 1e-4
    assert found.cosine > 0.99
    assert_close(found.vector.norm(), vector.norm())


def test_a_vector_that_says_the_same_of_a_few_tokens_is_another_one():
    model = tiny("gemma2")  # with a soft cap
    vector = 5 * drawn(model.anatomy.d_model)
    found = rebuilt(model, vector, words=4, steps=60)
    own, theirs = said(model, vector), said(model, found.vector)
    top = own.topk(4).indices
    assert_close(theirs[top] / theirs[top].sum(), own[top] / own[top].sum(), rtol=0.1, atol=0.02)
    assert found.cosine < 0.9
    assert_close(found.vector.norm(), vector.norm())


def test_nothing_to_match_is_refused():
    model = tiny("llama")
    for words, steps in ((1, 5), (-1, 5), (4, 0)):
        with pytest.raises(BadInput, match=f"words={words}, steps={steps}"):
            rebuilt(model, drawn(model.anatomy.d_model), words, steps)
