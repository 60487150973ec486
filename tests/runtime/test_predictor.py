"""Predictors: strictly causal, the same with a cache, the formula by hand, and only for their own model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from depthscope.errors import BadInput, StoreError, UnknownName
from depthscope.runtime.lens_folder import model_card
from depthscope.runtime.predictor import (
    CARD,
    PAPER,
    ROBUST,
    Design,
    Predictor,
    Predictors,
    load_predictors,
    novelty,
    save_predictors,
    split,
)  # fmt: skip
from depthscope.runtime.predictor_attention import attended
from depthscope.runtime.tiny import tiny

DESIGNS = {
    "paper": PAPER,
    "robust": ROBUST,
    "one position": replace(ROBUST, window=1),
    "three positions, two layers": replace(ROBUST, window=3, layers=2),
    "mlp": replace(ROBUST, kind="mlp", layers=2, variance=True),
    "gru": Design(kind="gru", layers=2, residual="gain"),
    "lags": Design(kind="linear", window=3, norm="rms", residual="none"),
}
WIDTH = 8


def made(design: Design, width: int = WIDTH) -> Predictor:
    """Random weights everywhere, a mean and a scale that matter."""
    torch.manual_seed(0)
    predictor = Predictor(design, width)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    predictor.standardise(torch.randn(width), torch.rand(width) + 0.5, 1.7)
    return predictor.requires_grad_(False)


@pytest.fixture(params=DESIGNS.values(), ids=DESIGNS.keys())
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return made(request.param)


STREAM = torch.randn(2, 9, WIDTH, generator=torch.Generator().manual_seed(1)) * 3


def test_a_prediction_never_sees_what_it_predicts(predictor: Predictor):
    """Rows 5.. changed: predictions of rows up to 5, which are output rows up to 4, stay; later ones do not."""
    changed = STREAM.clone()
    changed[:, 5:] = torch.randn(2, 4, WIDTH)
    before, after = predictor(STREAM), predictor(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=0)
    assert ((after[:, 5:] - before[:, 5:]).abs().amax(-1) > 1e-4).all()


def test_new_tokens_alone_with_a_cache_give_what_the_whole_gives(predictor: Predictor):
    whole, cache, parts = predictor(STREAM), None, []
    for start, stop in ((0, 3), (3, 4), (4, 5), (5, 9)):
        found, cache = predictor.step(STREAM[:, start:stop], cache)
        parts.append(found)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [1, 3])
def test_a_window_bounds_what_is_seen_and_what_is_kept(window: int):
    predictor = made(replace(ROBUST, window=window))
    changed = STREAM.clone()
    changed[:, 2] += 1
    differs = (predictor(changed) - predictor(STREAM)).abs().amax((0, 2)) > 1e-6
    assert differs.tolist() == [2 <= t < 2 + window for t in range(9)]
    _, cache = predictor.step(STREAM)
    assert cache.blocks[0][0].shape[2] == window - 1


def test_the_paper_predictor_is_plain_attention():
    """softmax(Q K' / sqrt(d)) V W_o + b_o with biases, head by head, on raw states."""
    predictor = made(PAPER)
    block, dim, heads = predictor.blocks[0], 8, 4
    weights, bias = block.qkv.weight.double(), block.qkv.bias.double()
    x = STREAM.double()
    query, key, value = (x @ weights.T + bias).chunk(3, -1)
    found = []
    for h in range(heads):
        q, k, v = (part[..., h * dim : (h + 1) * dim] for part in (query, key, value))
        scores = q @ k.transpose(1, 2) / math.sqrt(dim)
        later = torch.triu(torch.ones(9, 9, dtype=torch.bool), 1)
        found.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ v)
    expected = torch.cat(found, -1) @ block.out.weight.double().T + block.out.bias.double()
    torch.testing.assert_close(predictor(STREAM).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 64, 65, 130])
@pytest.mark.parametrize(("rope", "bias"), [(True, True), (False, False)])
def test_attention_for_training_and_its_gradients_are_those_of_plain_attention(
    tokens: int, rope: bool, bias: bool
):
    """Blocks of 64 queries: one, a whole one, one and a bit, two and a bit; complex numbers turn queries and keys."""
    generator = torch.Generator().manual_seed(2)
    x, grad = (torch.randn(2, tokens, n, generator=generator, dtype=torch.float64) for n in (5, 12))
    weight = torch.randn(36, 5, generator=generator, dtype=torch.float64) / 3
    close = 1e-5 if rope else 1e-11  # angles are float32 ones
    given = [x, weight, *([torch.randn(36, generator=generator, dtype=torch.float64)] if bias else [])]
    given = [each.requires_grad_() for each in given]
    found = attended(given[0], given[1], given[2] if bias else None, 3, rope)
    query, key, value = torch.nn.functional.linear(*given).view(2, tokens, 3, 3, 4).permute(2, 0, 3, 1, 4)
    if rope:
        angles = torch.arange(tokens)[:, None] * torch.tensor([1.0, 0.01])
        turn = torch.polar(torch.ones_like(angles), angles).to(torch.complex128)
        query, key = (torch.cat((z.real, z.imag), -1) for z in (
            torch.complex(*part.chunk(2, -1)) * turn for part in (query, key)
        ))  # fmt: skip
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    shares = (query @ key.mT / 2).masked_fill(later, -torch.inf).softmax(-1)
    wanted = (shares @ value).transpose(1, 2).reshape(2, tokens, 12)
    torch.testing.assert_close(found, wanted, rtol=close, atol=close)
    slopes = (torch.autograd.grad(each, given, grad) for each in (found, wanted))
    for mine, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=close, atol=10 * close)


@pytest.mark.parametrize("name", ["paper", "robust", "mlp"])
def test_a_prediction_in_training_is_the_one_without_gradients(name: str):
    predictor = made(DESIGNS[name])
    found = predictor(STREAM)
    with torch.no_grad():
        torch.testing.assert_close(found, predictor(STREAM), rtol=1e-5, atol=1e-5)


def test_the_paper_predictor_has_four_times_the_weights_of_an_attention_layer():
    """At width 1024: 32 heads of 128 make 4 x 1024 x 4096 = 16,777,216 weights; attention of the model 4 x 1024^2."""
    with torch.device("meta"):
        predictor = Predictor(PAPER, 1024)
    assert (predictor.design.heads, predictor.design.head_dim) == (32, 128)
    assert sum(p.numel() for p in predictor.parameters() if p.dim() == 2) == 16_777_216 == 4 * (4 * 1024**2)


@pytest.mark.parametrize("width", [16, 48, 128, 576, 640, 960])
def test_heads_are_scaled_to_four_times_the_width(width: int):
    sized = Design().sized(width)
    assert sized.heads * sized.head_dim == 4 * width
    assert sized.head_dim <= min(128, width)


def test_an_untrained_predictor_gives_the_mean():
    predictor = Predictor(ROBUST, WIDTH)
    predictor.standardise(torch.arange(8.0), torch.ones(8), 2.0)
    torch.testing.assert_close(predictor(STREAM), torch.arange(8.0).expand(2, 9, 8))


def test_a_sink_is_shortened_before_it_is_read():
    """A first state a thousand times longer changes later predictions no more than one of four deviations."""
    predictor, long = made(ROBUST), STREAM.clone()
    long[:, 0] *= 1000
    assert predictor.inputs(long).square().mean(-1).sqrt().max() <= 4 + 1e-5
    torch.testing.assert_close(predictor.inputs(long)[:, 1:], predictor.inputs(STREAM)[:, 1:])


def test_the_parts_of_a_stream_add_up_in_float32():
    predictor = made(ROBUST)
    parts = split(predictor, STREAM.bfloat16())
    assert parts.h.shape == parts.novel.shape == (2, 8, WIDTH)
    assert {part.dtype for part in parts} == {torch.float32}
    torch.testing.assert_close(parts.expected + parts.novel, STREAM.bfloat16().float()[:, 1:])
    torch.testing.assert_close(parts.expected, predictor(STREAM.bfloat16().float())[:, :-1])
    with pytest.raises(BadInput, match="2 or more"):
        split(predictor, STREAM[:, :1])


def test_novelty_is_the_density_of_a_diagonal_gaussian():
    predictor = made(replace(ROBUST, variance=True))
    mean, log_variance = predictor.distribution(STREAM)
    torch.testing.assert_close(mean, predictor(STREAM))
    given = torch.distributions.Normal(mean[:, :-1], (log_variance[:, :-1] / 2).exp())
    alone = torch.distributions.Normal(predictor.mean, predictor.scale)
    found = novelty(predictor, STREAM)
    torch.testing.assert_close(found.given_past, -given.log_prob(STREAM[:, 1:]).sum(-1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.marginal, -alone.log_prob(STREAM[:, 1:]).sum(-1), rtol=1e-5, atol=1e-4)
    with pytest.raises(BadInput, match="no variance"):
        novelty(made(ROBUST), STREAM)


def test_the_variance_does_not_pull_at_the_mean():
    predictor = made(replace(ROBUST, variance=True)).requires_grad_(True)
    predictor.distribution(STREAM)[1].sum().backward()
    moved = {name for name, p in predictor.named_parameters() if p.grad is not None}
    assert moved == {"spread.weight", "spread.bias"}


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"kind": "atention"}, UnknownName, "did you mean 'attention'"),
        ({"norm": "layer"}, UnknownName, "norm"),
        ({"layers": 0}, BadInput, "layers=0 must be 1 or more"),
        ({"kind": "gru", "window": 4}, BadInput, "window=0"),
        ({"kind": "linear", "layers": 2}, BadInput, "layers=1"),
    ],
)
def test_designs_that_mean_nothing_are_refused(wrong: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        Design(**wrong)


def test_rotary_positions_want_pairs_of_dimensions():
    with pytest.raises(BadInput, match="even"):
        Design(head_dim=3).sized(8)


def test_a_stream_of_another_width_is_refused():
    with pytest.raises(BadInput, match="width 8, found 5"):
        made(ROBUST)(torch.zeros(1, 3, 5))


@pytest.fixture
def saved(tmp_path: Path):
    model = tiny("llama", torch.float32)
    width = model.anatomy.d_model
    predictors = Predictors(
        {2: made(ROBUST, width), 4: made(PAPER, width)}, {"model": model_card(model), "seed": 3}
    )
    return model, predictors, save_predictors(tmp_path / "p", predictors)


def test_what_is_saved_is_what_is_loaded(saved):
    model, predictors, folder = saved
    found = load_predictors(folder, model)
    assert found.states == (2, 4)
    assert found.identity == predictors.identity
    assert found.card["seed"] == 3
    stream = torch.randn(1, 5, model.anatomy.d_model)
    for state in found.states:
        assert found.at(state).design == predictors.at(state).design
        torch.testing.assert_close(found.at(state)(stream), predictors.at(state)(stream), rtol=0, atol=0)
    with pytest.raises(BadInput, match="layers 1, 3"):
        found.at(3)


def test_predictors_of_another_model_are_refused(saved):
    _, _, folder = saved
    with pytest.raises(BadInput, match="differs from that"):
        load_predictors(folder, tiny("llama", torch.float32, seed=5))
    with pytest.raises(BadInput, match="another model"):
        load_predictors(folder, tiny("gpt2", torch.float32, n_embd=16, n_head=2))


def test_a_damaged_folder_and_an_empty_one_are_told_apart(saved, tmp_path: Path):
    model, _, folder = saved
    with pytest.raises(BadInput, match="fit predictor"):
        load_predictors(tmp_path, model)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "identity": "0" * 16}))
    with pytest.raises(StoreError, match="not those"):
        load_predictors(folder, model)
    (folder / card["weights"]).write_bytes(b"cut short")
    with pytest.raises(StoreError, match="damaged"):
        load_predictors(folder, model)
