"""Heads: rows, writes, ablations and last-token effects against transformers' own tensors and plain torch hooks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from wired_heads import planted_heads

from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.runtime.head_ablation import Ablation, ablated, ablating, head_means, kv_group
from depthscope.runtime.head_writes import bias_write, head_outputs, head_write, value_norms, write_norms
from depthscope.runtime.last_token import Patch, attribution, last_token_effects, last_token_states
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

ROUNDING = {"gemma2": 1e-5, "gemma3_text": 1e-5, "olmo2": 1e-5, "deepseek_v3": 1e-6}
"""Families whose norms or softmax stay in float32 in a float64 model; 1e-9 elsewhere."""
LAST = "L-1.resid_post"
IDS = [7, 12, 30, 12, 41, 8, 55, 9]


def model_of(name: str) -> Model:
    family, _, kind = name.partition("/")
    return tiny(family, num_key_value_heads=1) if kind == "mqa" else tiny(family)


def ids_of(rows: int = 2, length: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(3, 90, (rows, length), generator=torch.Generator().manual_seed(seed))


@contextmanager
def before(module: torch.nn.Module, change: Callable[[Tensor], Tensor]):
    """A plain torch hook on what a module reads."""
    handle = module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def projection(model: Model, layer: int) -> Any:
    sub = model.anatomy.layers[layer].attn
    assert sub is not None
    return sub.proj


# ------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("name", ["llama", "llama/mqa", "gemma2", "gemma3_text", "gpt_oss", "bert", "gpt2"])
def test_rows_at_each_windows_own_queries_are_those_of_eager_attention(name: str):
    model = model_of(name)
    padded = Batch.of_ids([list(range(5, 14)), list(range(20, 26))])
    queries = torch.tensor([[1, 8, 4], [5, 0, -1]])
    seen = run(model, padded, queries=queries, values=True)
    model.net.set_attn_implementation("eager")  # type: ignore[operator]
    with torch.no_grad():
        maps = model.net(**padded.inputs, output_attentions=True).attentions
    for layer, full in enumerate(maps):
        found = seen.pattern(layer)
        assert found[1, :, 2].isnan().all()
        for row, place, query in [(0, 0, 1), (0, 1, 8), (0, 2, 4), (1, 0, 5), (1, 1, 0)]:
            assert_close(found[row, :, place], full[row, :, query], atol=2e-6, rtol=0, check_dtype=False)
        held = seen.heads[layer].value
        assert held is not None
        assert held.shape[:3] == (2, model.anatomy.n_kv_heads, 9)


def test_the_same_queries_for_all_rows_and_each_rows_own_agree():
    model, ids = model_of("llama"), ids_of()
    one = run(model, ids, queries=torch.tensor([1, 4, 7]))
    own = run(model, ids, queries=torch.tensor([[1, 4, 7], [1, 4, 7]]))
    assert_close(one.pattern(2), own.pattern(2), atol=1e-12, rtol=0)
    assert one.heads[2].value is None


# ------------------------------------------------------------------------------------------------------------ writes


@pytest.mark.parametrize(
    "name", ["llama/mqa", "gpt2", "opt", "gemma3_text", "olmo2", "deepseek_v3", "falcon_h1"]
)
def test_writes_of_heads_and_the_bias_add_up_to_what_attention_adds(name: str):
    model, batch = model_of(name), Batch.of_ids(ids_of())
    seen = run(model, batch, read=["L*.attn_out"])
    for layer, z in head_outputs(model, batch).items():
        total = head_write(model, layer, z).sum(2) + bias_write(model, layer, z)
        # law 1 holds attn_out to the streams on either side of it
        assert_close(total.detach(), seen[f"L{layer}.attn_out"], atol=ROUNDING.get(name, 1e-9), rtol=0)


def test_a_bias_belongs_to_no_head():
    model, batch = model_of("gpt2"), Batch.of_ids(ids_of())
    bias = bias_write(model, 1, head_outputs(model, batch, layers=[1])[1])
    assert_close(bias[0, 3].detach(), projection(model, 1).bias.detach())


def test_outputs_are_kept_where_they_are_asked_for():
    model, batch = model_of("llama"), Batch.of_ids(ids_of())
    whole, some = head_outputs(model, batch), head_outputs(model, batch, torch.tensor([2, -1]), [1, 3])
    assert sorted(some) == [1, 3]
    assert_close(some[3], whole[3][:, [2, 8]])


@pytest.mark.parametrize("name", ["llama/mqa", "gemma3_text"])
def test_a_head_that_looks_at_one_key_writes_in_proportion_to_its_value_norm(name: str):
    model, ids = model_of(name), ids_of(1)
    value = run(model, ids, queries=torch.tensor([1]), values=True).heads[1].value
    assert value is not None
    z = value.repeat_interleave(4 // value.shape[1], 1).transpose(
        1, 2
    )  # token j as if every head saw only key j
    # the norm behind the projection scales a token's heads alike: compare the heads of one token
    found, direct = value_norms(model, 1, value)[0, :, 4], write_norms(model, 1, z)[0, 4]
    assert_close((found / found.sum()).detach(), (direct / direct.sum()).detach(), atol=1e-6, rtol=0)


# --------------------------------------------------------------------------------------------------------- ablations


def naive(model: Model, ids: Tensor, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The last state of a full pass with a plain hook on what the output projection reads."""
    with before(projection(model, layer), change):
        return run(model, ids, read=[LAST])[LAST]


def zeroed(head: int, at: slice = slice(None)) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        z = x.unflatten(-1, (4, -1)).clone()
        z[:, at, head] = 0
        return z.flatten(-2)

    return change


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss", "deepseek_v3", "falcon_h1", "bert"])
def test_conditions_in_one_batch_equal_single_ones_and_full_runs(name: str):
    model, ids = model_of(name), ids_of()
    layers = model.anatomy.attention_layers
    conditions = [
        Ablation(((layers[-1], 2),), "zero"),
        Ablation(((layers[0], 1), (layers[-1], 0)), "uniform"),
        Ablation(((layers[1], 3),), "zero", at="last"),
        Ablation(((layers[1], 3),), "stream", start=1, recent=2),
        Ablation(()),
    ]
    batch, close = Batch.of_ids(ids), {"atol": ROUNDING.get(name, 1e-9), "rtol": 0}
    together = dict(ablated(model, batch, conditions))
    alone = {k: seen for k, c in enumerate(conditions) for _, seen in ablated(model, batch, [c])}
    clean = run(model, ids, read=[LAST])[LAST]
    for k in range(len(conditions)):
        assert_close(together[k][LAST], alone[k][LAST], **close)
    assert_close(together[0][LAST], naive(model, ids, layers[-1], zeroed(2)), **close)
    last = naive(model, ids, layers[1], zeroed(3, slice(-1, None)))
    assert_close(together[2][LAST], last, **close)
    assert_close(together[4][LAST], clean, **close)
    for k in (1, 3):
        assert (together[k][LAST] - clean).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["uniform", "stream"])
@pytest.mark.parametrize("name", ["llama/mqa", "gemma2"])
def test_changed_attention_is_the_eager_map_cut_and_renormalised(name: str, kind: str):
    model, ids = model_of(name), ids_of()
    seen = run(model, ids, queries=torch.tensor([0]), values=True)
    model.net.set_attn_implementation("eager")  # type: ignore[operator]
    with torch.no_grad():
        rows = model.net(ids, output_attentions=True).attentions[1][:, 2].double()
    back = torch.arange(9)[:, None] - torch.arange(9)
    kept = (rows > 0).double() if kind == "uniform" else rows * ((back < 3) | (torch.arange(9) < 1))
    value = seen.heads[1].value
    assert value is not None
    expected = kept / kept.sum(-1, keepdim=True) @ value[:, 2 // (4 // value.shape[1])]
    condition = Ablation(((1, 2),), kind, start=1, recent=3)
    ((_, found),) = ablated(model, Batch.of_ids(ids), [condition], read=["L1.head_out"])
    assert_close(found["L1.head_out"][:, :, 2], expected, atol=1e-6, rtol=0)
    assert_close(
        found["L1.head_out"][:, :, 1], head_outputs(model, Batch.of_ids(ids))[1][:, :, 1], atol=1e-6, rtol=0
    )


def test_means_and_other_text_take_a_heads_place():
    model, batch = model_of("llama"), Batch.of_ids(ids_of())
    z, other = head_outputs(model, batch), head_outputs(model, Batch.of_ids(ids_of(seed=1)))
    means = head_means(model, [batch])
    assert_close(means[1, 2], z[1][:, 1:, 2].reshape(-1, 8).mean(0))
    conditions = [Ablation(((1, 2),), "mean"), Ablation(((1, 2),), "resample", at="decode_only")]
    found = dict(ablated(model, batch, conditions, means=means, other=other, prompt=5, read=["L1.head_out"]))
    assert_close(found[0]["L1.head_out"][1, 4, 2], means[1, 2])
    assert_close(found[1]["L1.head_out"][:, 4:, 2], other[1][:, 4:, 2])
    assert_close(found[1]["L1.head_out"][:, :4, 2], z[1][:, :4, 2])


def test_patterns_are_preserved_where_asked_and_follow_where_not():
    model = planted_heads({(0, 0): "previous", (1, 0): "induction"})
    ids = torch.tensor([[4, 9, 7, 30, 9]])
    conditions = [Ablation(((0, 0),), kind) for kind in ("zero", "pattern_preserving")]
    found = dict(ablated(model, Batch.of_ids(ids), conditions))
    said = [model.net.lm_head(found[k][LAST])[0, -1].detach() for k in (0, 1)]  # type: ignore[operator]
    # without the token before in the stream nothing matches: the head rests on position 0 and says that token
    assert_close(said[0][[7, 4]], torch.tensor([0.0, 10.0], dtype=torch.float64), atol=1e-6, rtol=0)
    assert_close(said[1][[7, 4]], torch.tensor([10.0, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_steps_of_generation_can_be_ablated():
    model, ids = model_of("llama"), ids_of(1)
    with torch.no_grad():
        kept = model.net(ids[:, :-1], use_cache=True)
        with ablating(model, [Ablation(((1, 2),), "zero")]):
            logits = model.net(ids[:, -1:], past_key_values=kept.past_key_values).logits[:, -1]
        expected = model.head.logits(naive(model, ids, 1, zeroed(2, slice(-1, None)))[:, -1])
    assert_close(logits, expected, atol=1e-9, rtol=0)


def test_a_group_shares_one_key_value_head():
    assert kv_group(model_of("llama").anatomy, 2, 1) == ((2, 2), (2, 3))
    with pytest.raises(BadInput, match="key-value heads 0 to 1, got 2"):
        kv_group(model_of("llama").anatomy, 2, 2)


def test_ablations_without_what_they_need_are_told_so():
    model, batch = model_of("llama"), Batch.of_ids(ids_of())
    with pytest.raises(UnknownName, match="zeros"):
        Ablation(((0, 0),), "zeros")
    with pytest.raises(BadInput, match="at least 1 recent one, got 4 and 0"):
        Ablation(((0, 0),), "stream", recent=0)
    for kind, match in (("mean", "head_means"), ("resample", "head_outputs")):
        with pytest.raises(BadInput, match=match):
            list(ablated(model, batch, [Ablation(((0, 0),), kind)]))
    with pytest.raises(BadInput, match="has heads 0 to 3"):
        list(ablated(model, batch, [Ablation(((0, 4),), "zero")]))
    with pytest.raises(BadInput, match="number of tokens of the prompt"):
        list(ablated(model, batch, [Ablation(((0, 0),), "zero", at="decode_only")]))
    with pytest.raises(Refused, match="has no attention"):
        list(ablated(tiny("jamba"), batch, [Ablation(((0, 0),), "zero")]))
    with (
        pytest.raises(BadInput, match="needs a recorded pass"),
        ablating(model, [Ablation(((0, 0),), "pattern_preserving")]),
    ):
        pass


# -------------------------------------------------------------------------------------------------------- last token


def log_p(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1)[:, 5]


def replaced(head: int, z: Tensor) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        parts = x.unflatten(-1, (4, -1)).clone()
        parts[:, -1, head] = z
        return parts.flatten(-2)

    return change


@pytest.mark.parametrize("name", ["llama/mqa", "gemma2", "gpt2", "jamba"])
def test_cached_last_token_effects_equal_full_patches(name: str):
    model = model_of(name)
    shape = (model.anatomy.n_layers, model.anatomy.n_heads, model.anatomy.d_head)
    z = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = last_token_effects(model, IDS, z, log_p, rows=5)
    row = torch.tensor([IDS])
    with torch.no_grad():
        clean = float(log_p(model.net(row).logits[:, -1]))
        for layer in range(model.anatomy.n_layers):
            if layer not in model.anatomy.attention_layers:
                assert found.effect[layer].isnan().all()
                continue
            for head in (0, 3):
                with before(projection(model, layer), replaced(head, z[layer, head])):
                    patched = float(log_p(model.net(row).logits[:, -1]))
                # logits of the head are float64, those of some networks end in a float32 norm
                assert float(found.effect[layer, head]) == pytest.approx(patched - clean, abs=1e-5)
    assert found.clean == pytest.approx(clean, abs=1e-5)


def test_several_heads_are_replaced_together():
    model, z = model_of("llama"), torch.randn(2, 8, dtype=torch.float64)
    patch = Patch(((0, 1), (3, 2)), z)
    ends = last_token_states(model, IDS, [patch])
    with before(projection(model, 0), replaced(1, z[0])), before(projection(model, 3), replaced(2, z[1])):
        expected = run(model, torch.tensor([IDS]), read=[LAST])[LAST]
    assert_close(ends, expected[:, -1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gemma2", "falcon_h1"])
def test_attribution_is_the_effect_of_a_small_step(name: str):
    model, batch = model_of(name), Batch.of_ids([IDS])
    clean = torch.zeros(
        model.anatomy.n_layers, model.anatomy.n_heads, model.anatomy.d_head, dtype=torch.float64
    )
    for layer, z in head_outputs(model, batch, torch.tensor([-1])).items():
        clean[layer] = z[0, 0]
    near = clean + 1e-3 * torch.randn(
        clean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )
    found, exact = attribution(model, batch, near, log_p), last_token_effects(model, IDS, near, log_p).effect
    assert_close(found, exact, atol=0.05 * float(exact.abs().max()), rtol=0)
    assert all(p.requires_grad for p in model.net.parameters())


def test_patches_that_cannot_be_are_refused():
    model = model_of("llama")
    with pytest.raises(Refused, match="no causal language model"):
        last_token_states(model_of("bert"), IDS, [])
    with pytest.raises(Refused, match="by_cache=False"):
        last_token_states(tiny("jamba"), IDS, [Patch((), torch.zeros(0, 8))], by_cache=True)
    with pytest.raises(BadInput, match="prompt of 2 tokens, got 1"):
        last_token_states(model, [5], [])
    with pytest.raises(BadInput, match="2 heads was given 1 outputs"):
        Patch(((0, 0), (1, 0)), torch.zeros(1, 8))


# ------------------------------------------------------------------------------------------------------------- law


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba"])
def test_the_first_token_has_one_state_whatever_follows(name: str):
    model, ids = tiny(name), ids_of(5)
    ids[:, 0] = 7
    states = run(model, ids, read=["L0.resid_pre", "L*.resid_post"]).states()[:, :, 0]
    assert_close(states, states[:, :1].expand_as(states), atol=1e-6, rtol=0)
    assert (states[-1] - run(model, ids.flip(1), read=[LAST])[LAST][:, 0]).abs().max() > 1e-3
