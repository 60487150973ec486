"""Rank-one insertions: the algebra is exact, unrelated keys are untouched, and weights are put back."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput, Refused
from depthscope.runtime.memories import gain, memory_layers, projection, pushed_logits, values
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.rank_one import Descent, Spot, change_for, holding, inserted, key_at, second_moment
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

IDS = (5, 9, 7, 30, 11, 8)


def test_the_key_gives_the_new_value_and_keys_orthogonal_under_the_moment_give_what_they_gave():
    generator = torch.Generator().manual_seed(0)
    weight, key, delta = (
        torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((4, 6), (6,), (4,))
    )
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    moment = root @ root.T + torch.eye(6)
    new = inserted(weight, key, delta, moment)
    torch.testing.assert_close(new @ key, weight @ key + delta)
    assert int(torch.linalg.matrix_rank(new - weight)) == 1
    related = torch.linalg.inv(moment) @ key
    other = torch.randn(6, generator=generator, dtype=torch.float64)
    other = other - related * (other @ related) / (related @ related)
    torch.testing.assert_close(new @ other, weight @ other)


def test_the_moment_holds_the_keys_of_first_positions_and_its_ridge_does_not():
    model = tiny("llama")
    proj = model.net.model.layers[1].mlp.down_proj  # type: ignore[union-attr]
    read: list[torch.Tensor] = []
    hook = proj.register_forward_pre_hook(lambda _, given: read.append(given[0][0].double()))
    with torch.no_grad():
        for ids in (IDS, IDS[::-1]):
            model.net(input_ids=torch.tensor([ids]))
    hook.remove()
    keys = torch.cat(read)
    behind = torch.cat([k[1:] for k in read])
    expected = keys.T @ keys / 12 + 0.5 * behind.square().mean() * torch.eye(keys.shape[1])
    torch.testing.assert_close(second_moment(model, 1, [Batch.of_ids([IDS, IDS[::-1]])], ridge=0.5), expected)


def test_two_pairs_in_turn_disturb_each_other_by_what_their_keys_share():
    weight, moment = torch.zeros(3, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    a = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    b = torch.tensor([0.6, 0.8, 0, 0], dtype=torch.float64)
    first, second = torch.eye(3, dtype=torch.float64)[:2]
    both = inserted(inserted(weight, a, first, moment), b, second, moment)
    torch.testing.assert_close(both @ a, first + 0.6 * second)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_change_makes_its_target_follow_and_the_inserted_pair_does_so_without_a_hook(family: str):
    model = tiny(family)
    spot = Spot(IDS, 5, (40,))
    layer = memory_layers(model.anatomy)[-1]
    before = torch.softmax(model.head.logits(end(model)), -1)[40]
    found = change_for(model, layer, [spot], Descent(steps=15, rate=1.0, clamp=1e4, decay=0.0))
    assert all(p.requires_grad and p.grad is None for p in model.net.parameters())
    moment = second_moment(model, layer, [Batch.of_ids([IDS, IDS[::-1]])], ridge=1.0)
    weight, turned = projection(model, layer)
    held = weight.detach().clone()
    new = inserted(held.T if turned else held, key_at(model, layer, [spot]), found.delta, moment)
    with holding(model, layer, new):
        after = torch.softmax(model.head.logits(end(model)), -1)[40]
    assert float(after) > 1.4 * float(before)  # what a norm lets through is little
    torch.testing.assert_close(weight.detach(), held, rtol=0, atol=0)
    torch.testing.assert_close(torch.softmax(model.head.logits(end(model)), -1)[40], before)


def end(model: Model) -> torch.Tensor:
    site = f"L{model.anatomy.n_layers - 1}.resid_post"
    return run(model, torch.tensor([IDS]), read=[site])[site][0, -1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_values_times_hidden_numbers_are_what_the_mlp_adds_up_to_bias_and_a_factor_a_token(family: str):
    model = tiny(family)
    seen = run(model, torch.tensor([IDS]), read=["L1.mlp_hidden", "L1.mlp_out"])
    summed = seen["L1.mlp_hidden"][0] @ values(model, 1)
    proj = model.anatomy.layers[1].mlp.proj  # type: ignore[union-attr]
    bias = getattr(proj, "bias", None)
    summed = summed if bias is None else summed + bias.detach()
    cosine = torch.nn.functional.cosine_similarity(summed, seen["L1.mlp_out"][0], dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_gain_is_the_weight_of_a_norm_and_pushed_logits_fold_it_in():
    norm = torch.nn.LayerNorm(4, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2, 3, 4]))
        norm.bias.fill_(7)
    torch.testing.assert_close(gain(norm, 4), norm.weight.detach(), rtol=1e-4, atol=1e-4)
    model = tiny("llama")
    row = torch.randn(2, model.anatomy.d_model, dtype=torch.float64)
    plain = (row * model.net.model.norm.weight) @ model.net.lm_head.weight.T  # type: ignore[union-attr]
    torch.testing.assert_close(pushed_logits(model, row), plain.detach(), rtol=1e-4, atol=1e-4)


def test_routed_layers_empty_texts_and_wrong_rates_are_refused():
    with pytest.raises(Refused, match="no MLP with one last projection"):
        values(tiny("mixtral"), 0)
    with pytest.raises(BadInput, match="there is none"):
        second_moment(tiny("llama"), 0, [])
    with pytest.raises(BadInput, match="rate=0"):
        Descent(rate=0.0)
