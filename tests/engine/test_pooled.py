"""Pooled vectors of all states: against the model's own hidden states, one text at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from depthscope.engine.pooled import final_normed, pooled, pooled_views
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.edges import encoded
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

TEXTS = ["abcdefg", "xyz", "hello", "", "abcdefg", "q"]


@pytest.fixture(scope="module")
def llama() -> Model:
    return tiny("llama", torch.float32)


def by_transformers(model: Model, text: str) -> torch.Tensor:
    """Mean over tokens of every state, [state, d]; the last one after the final norm, as transformers gives it."""
    ids = torch.tensor([model.tokenizer.encode(text)])
    with torch.no_grad():
        states = model.net(ids, output_hidden_states=True).hidden_states  # type: ignore[operator]
    return torch.stack([state[0].mean(0) for state in states])


def test_every_state_of_every_text_is_that_of_the_text_alone(llama: Model) -> None:
    found = pooled(llama, TEXTS)
    for place, text in enumerate(TEXTS):
        if text:
            np.testing.assert_allclose(
                found.vectors[:-1, place], by_transformers(llama, text)[:-1], rtol=1e-4, atol=1e-5
            )
    np.testing.assert_array_equal(found.tokens, [7, 3, 5, 0, 7, 1])


def test_the_last_state_after_the_final_norm_is_what_transformers_returns(llama: Model) -> None:
    found = pooled(llama, TEXTS[:3], norm=True)
    for place, text in enumerate(TEXTS[:3]):
        np.testing.assert_allclose(
            found.vectors[-1, place], by_transformers(llama, text)[-1], rtol=1e-4, atol=1e-5
        )


def test_both_sides_of_the_norm_in_one_pass_are_those_of_two_passes(llama: Model) -> None:
    views = [("mean", False), ("mean", True), ("last", True)]
    found = pooled_views(llama, TEXTS, views)
    for pooling, norm in views:
        alone = pooled(llama, TEXTS, pooling, norm=norm)
        np.testing.assert_allclose(found[pooling, norm].vectors, alone.vectors, rtol=1e-6)
    assert np.abs(found["mean", False].vectors[:, 0] - found["mean", True].vectors[:, 0]).max() > 1e-2


def test_an_empty_text_has_zero_vectors_and_is_flagged(llama: Model) -> None:
    found = pooled(llama, TEXTS)
    np.testing.assert_array_equal(found.empty, [text == "" for text in TEXTS])
    assert not found.vectors[:, 3].any()
    assert found.vectors[:, 0].any()


def test_equal_texts_have_equal_vectors(llama: Model) -> None:
    found = pooled(llama, TEXTS)
    np.testing.assert_array_equal(found.vectors[:, 0], found.vectors[:, 4])


def _noting(ran: list[int], layer: int) -> Callable[..., None]:
    return lambda *_args: ran.append(layer)  # pyright: ignore[reportUnknownLambdaType]


def test_stopping_early_gives_the_first_states_and_runs_no_later_block(llama: Model) -> None:
    ran: list[int] = []
    handles = [layer.block.register_forward_hook(_noting(ran, layer.index)) for layer in llama.anatomy.layers]
    found = pooled(llama, TEXTS[:1], upto=1)
    for handle in handles:
        handle.remove()
    assert found.vectors.shape[0] == 2
    assert set(ran) == {0}
    np.testing.assert_allclose(found.vectors, pooled(llama, TEXTS[:1]).vectors[:2], rtol=1e-6)


def test_a_long_text_is_cut(llama: Model) -> None:
    cut, whole = pooled(llama, ["abcdefg"], max_tokens=3), pooled(llama, ["abc"])
    np.testing.assert_allclose(cut.vectors, whole.vectors, rtol=1e-6)


class Wrapping:
    """A tokenizer with an id before and one after every text, as BERT's."""

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        own = [3 + ord(c) % 20 for c in text]
        return [1, *own, 2] if add_special_tokens else own


def test_ids_behind_a_text_stay_behind_a_cut_one(llama: Model) -> None:
    model = Model(llama.net, Wrapping(), llama.anatomy)
    whole, own = encoded(model.tokenizer, "abcdef")
    cut, kept = encoded(model.tokenizer, "abcdef", 5)
    assert (len(whole), own, len(cut), kept) == (8, 6, 5, 3)
    assert cut == (*whole[:4], 2)


def test_a_text_of_special_ids_only_is_flagged_but_has_a_vector(llama: Model) -> None:
    found = pooled(Model(llama.net, Wrapping(), llama.anatomy), ["", "a"])
    np.testing.assert_array_equal(found.empty, [True, False])
    assert found.vectors[:, 0].any()


def test_a_half_precision_model_norms_in_float32() -> None:
    model = tiny("llama", torch.bfloat16)
    vectors = torch.randn(3, model.anatomy.d_model)
    expected = model.anatomy.final_norm.float()(vectors)  # type: ignore[union-attr, operator]
    model = tiny("llama", torch.bfloat16)
    found = final_normed(model, vectors.bfloat16().float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_wrong_inputs_are_refused_with_what_was_found(llama: Model) -> None:
    with pytest.raises(BadInput, match="upto=9"):
        pooled(llama, TEXTS, upto=9)
    with pytest.raises(UnknownName, match="last"):
        pooled(llama, TEXTS, "lst")
    with pytest.raises(BadInput, match="max_tokens=0"):
        pooled(llama, TEXTS, max_tokens=0)
