"""Where predictions come near to the final one, and which layers add the same, on models wired by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import (
    SLOT,
    TOKEN,
    V,
    Write,
    axis,
    constant,
    look,
    planted,
    rising,
    the_answer,
    value,
)
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from depthscope.analyses.adaptive_compute import AdaptiveCompute
from depthscope.errors import BadInput, Refused
from depthscope.materials.written import Written
from depthscope.runtime.generate import generate
from depthscope.runtime.tiny import tiny
from depthscope.runtime.unrolled import looped, unrolled

EVERYWHERE = AdaptiveCompute(positions=10**6)
BITS, NATS = 0, 1


def at_tokens(below: int, write: Write) -> Write:
    """A write at tokens of small ids only."""
    return lambda x: write(x) * x[..., TOKEN][..., :below].sum(-1, keepdim=True)


@pytest.mark.parametrize(("writer", "early", "deep"), [(0, 1, 0), (2, 1, 0), (3, 0, 0), (5, 0, 1)])
def test_positions_settle_behind_the_layer_that_makes_the_prediction(
    writer: int, early: int, deep: int, tmp_path: Path
) -> None:
    found = look(planted({writer: the_answer(60.0)}), EVERYWHERE, tmp_path, rising())
    np.testing.assert_array_equal(value(found, "settled")[BITS], writer + 1)
    np.testing.assert_array_equal(value(found, "settled_histogram")[BITS], np.arange(7) == writer + 1)
    assert (value(found, "early_share")[BITS], value(found, "deep_share")[BITS]) == (early, deep)


def test_where_no_layer_writes_everything_is_settled_at_the_embedding(tmp_path: Path) -> None:
    found = look(planted({}), EVERYWHERE, tmp_path, rising())
    np.testing.assert_array_equal(value(found, "settled"), [0, 0])
    np.testing.assert_allclose(value(found, "jsd"), 0, atol=1e-12)
    np.testing.assert_array_equal(value(found, "write_cosine")[np.triu_indices(6, 1)], 0)


def test_tokens_that_are_decided_late_are_told_from_those_decided_early(tmp_path: Path) -> None:
    half = V // 2
    late: Write = lambda x: the_answer(60.0)(x) - at_tokens(half, the_answer(60.0))(x)  # noqa: E731
    texts = rising()
    found = look(planted({0: at_tokens(half, the_answer(60.0)), 5: late}), EVERYWHERE, tmp_path, texts)
    ids = np.array(
        [[3 + 3 * k + j for j in range(1, 23)] for k in range(10)]
    )  # neither the first nor the last
    early = float((ids < half).mean())
    assert 0.2 < early < 0.8
    np.testing.assert_allclose(value(found, "early_share")[BITS], early)
    np.testing.assert_allclose(value(found, "deep_share")[BITS], 1 - early)


def test_the_cosine_of_writes_tells_layers_that_add_the_same_the_opposite_and_nothing(tmp_path: Path) -> None:
    one, other = axis(SLOT.start, 0.5), axis(SLOT.start + 1, 2.0)
    writes = {
        0: constant(one),
        1: constant(3 * one),
        3: constant(-one),
        4: constant(other),
        5: constant(one + other / 4),
    }
    found = value(look(planted(writes), EVERYWHERE, tmp_path, rising()), "write_cosine")
    assert np.isnan(found[np.tril_indices(6)]).all()
    np.testing.assert_allclose(found[0, [1, 2, 3, 4, 5]], [1, 0, -1, 0, 0.5**0.5], atol=1e-9)


def test_passes_of_one_block_that_writes_the_same_have_cosine_one(tmp_path: Path) -> None:
    writes = {
        0: constant(axis(SLOT.start)),
        1: constant(axis(SLOT.start + 1)),
        2: constant(axis(SLOT.start + 2)),
    }
    model = unrolled(planted(writes, 3), looped(3, 1, 1, 3))
    found = look(model, EVERYWHERE, tmp_path, rising())
    np.testing.assert_array_equal(value(found, "block"), [0, 1, 1, 1, 2])
    np.testing.assert_allclose(value(found, "repeat_cosine"), [1, 0], atol=1e-9)


def test_without_repeats_there_is_nothing_to_compare_and_the_reason_is_said(tmp_path: Path) -> None:
    found = look(planted({}), EVERYWHERE, tmp_path, rising())["repeat_cosine"]
    assert np.isnan(found.value[0])
    assert found.missing == "no block runs more than once"


def test_divergences_and_cosines_are_those_of_scipy_and_numpy(tmp_path: Path) -> None:
    model = tiny("llama", torch.float64)
    ids = [1, 5, 9, 3, 7, 11, 2, 8, 6, 4, 12, 10, 15, 13, 14, 16]
    texts = ["".join(map(str, ids))] * 9
    found = look(model, EVERYWHERE, tmp_path, texts, window=16)
    rows = torch.tensor([model.tokenizer.encode(texts[0])[:16]])
    states = hidden(model.net, rows)
    with torch.no_grad():
        p = model.net.lm_head(model.net.model.norm(states)).softmax(-1).numpy()[:, 1:-1]
    wanted = np.array(
        [[jensenshannon(q, last) ** 2 for q, last in zip(state, p[-1], strict=True)] for state in p]
    )
    np.testing.assert_allclose(value(found, "jsd"), wanted.mean(1), rtol=1e-6, atol=1e-12)
    settled = [(wanted < 0.5 * unit).argmax(0).mean() for unit in (np.log(2), 1.0)]
    np.testing.assert_allclose(value(found, "settled"), settled)


def hidden(net: torch.nn.Module, ids: Tensor) -> Tensor:
    """All states of a llama before the final norm, [state, token, d]."""
    kept: list[Tensor] = []
    layers = net.model.layers  # type: ignore[union-attr]
    hooks = [layers[0].register_forward_pre_hook(lambda _, given: kept.append(given[0][0]))]  # type: ignore[index]
    hooks += [one.register_forward_hook(lambda _, __, out: kept.append(out[0])) for one in layers]  # type: ignore[union-attr]
    with torch.no_grad():
        net(ids)
    for hook in hooks:
        hook.remove()
    return torch.stack([state.reshape(-1, state.shape[-1]) for state in kept])


def test_what_the_model_writes_is_read_and_only_that(tmp_path: Path) -> None:
    model = tiny("llama", torch.float32)
    windows = Written(tokens=5, prompt=16, count=3).windows(model, 0)
    assert len(windows.items) == 3
    for window in windows.items:
        assert window.ids[16:] == generate(model, window.ids[:16], max_new_tokens=5).ids
        assert window.marks == tuple(range(15, len(window.ids) - 1))
    found = look(model, AdaptiveCompute(written=5, prompts=3), tmp_path, rising())
    written = sum(len(window.marks) for window in windows.items)
    assert int(np.asarray(found["settled"].n_items)[0]) == written


def test_a_threshold_that_no_divergence_reaches_is_refused() -> None:
    with pytest.raises(BadInput, match=r"threshold=0\.7 must be above 0 and below 0\.693147"):
        AdaptiveCompute(threshold=0.7)
    with pytest.raises(BadInput, match="tokens=0"):
        Written(tokens=0)


def test_an_encoder_writes_nothing() -> None:
    with pytest.raises(Refused, match="it writes nothing"):
        AdaptiveCompute(written=4).needs(tiny("bert").anatomy)
