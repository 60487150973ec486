"""The staircase against the naive loop: one full forward of transformers a variant, written here."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from depthscope.errors import BadInput, Refused
from depthscope.registry import FAMILIES
from depthscope.runtime import edits
from depthscope.runtime import sweep as staircase
from depthscope.runtime.branches import Boughs
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen, run
from depthscope.runtime.sweep import Effects, Variant, skip_variants, sweep
from depthscope.runtime.tiny import tiny

STATES = ("L0.resid_pre", "L*.resid_post")
SUBLAYERS = ("block", "attention", "mlp")
IDS = torch.randint(3, 96, (3, 11), generator=torch.Generator().manual_seed(2))
SPLITS = torch.tensor([[3, 8, -1], [2, 6, 10], [-1, -1, -1]])
REACH = 4


@dataclass(frozen=True)
class Where:
    """Where a family keeps its parts, for the loop below: the modules whose output is added to the stream."""

    blocks: str
    attention: str
    mlp: str
    norm: str


WHERE = {
    "llama": Where("model.layers", "self_attn", "mlp", "model.norm"),
    "gpt2": Where("transformer.h", "attn", "mlp", "transformer.ln_f"),
    "gpt_neox": Where("gpt_neox.layers", "attention", "mlp", "gpt_neox.final_layer_norm"),
    "gemma2": Where("model.layers", "post_attention_layernorm", "post_feedforward_layernorm", "model.norm"),
    "gemma3_text": Where(
        "model.layers", "post_attention_layernorm", "post_feedforward_layernorm", "model.norm"
    ),
    "mamba": Where("backbone.layers", "mixer", "", "backbone.norm_f"),
}
KINDS = tuple(WHERE)
TOLERANCE = {"gemma2": 1e-6}
"""Soft caps need eager attention, whose softmax is float32 whatever the model's type."""


@contextmanager
def hooks(*handles: RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def stream(args: tuple, kwargs: dict) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def module_of(kind: str, layer: int, sublayer: str) -> nn.Module:
    block = model_of(kind).net.get_submodule(f"{WHERE[kind].blocks}.{layer}")
    return block if sublayer == "block" else block.get_submodule(getattr(WHERE[kind], sublayer))


@torch.no_grad()
def naive(kind: str, layer: int = -1, sublayer: str = "", at: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """All states and log-probabilities of one full forward, a layer or sublayer adding nothing at some positions."""
    net, found = model_of(kind).net, []
    blocks = net.get_submodule(WHERE[kind].blocks)

    def leave_out(_: nn.Module, args: tuple, kwargs: dict, output: Tensor | tuple) -> Tensor | tuple:
        assert at is not None
        after = output[0] if isinstance(output, tuple) else output
        nothing = stream(args, kwargs) if sublayer == "block" else torch.zeros_like(after)
        left = torch.where(at[..., None], nothing, after)
        return (left, *output[1:]) if isinstance(output, tuple) else left

    def keep(_: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(stream(args, kwargs))

    places = [*blocks, net.get_submodule(WHERE[kind].norm)]
    handles = [m.register_forward_pre_hook(keep, with_kwargs=True) for m in places]
    if layer >= 0:
        module = module_of(kind, layer, sublayer)
        handles.append(module.register_forward_hook(leave_out, with_kwargs=True))
    ends: list[Tensor] = []  # before the head of mamba makes float32 of its logits
    handles.append(net.get_output_embeddings().register_forward_hook(lambda *call: ends.append(call[2])))
    with hooks(*handles):
        net(IDS, use_cache=False)
    cap = getattr(net.config, "final_logit_softcapping", None)
    logits = ends[0] if cap is None else cap * torch.tanh(ends[0] / cap)
    return torch.stack(found), torch.log_softmax(logits, -1)


@torch.no_grad()
def naive_write(kind: str, layer: int, before: Tensor) -> Tensor:
    """What one layer writes when it reads another stream, all others running as they do."""
    net, found = model_of(kind).net, []
    block = net.get_submodule(f"{WHERE[kind].blocks}.{layer}")

    def put(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return ((before, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": before})

    def keep(_: nn.Module, __: tuple, output: Tensor | tuple) -> None:
        found.append((output[0] if isinstance(output, tuple) else output) - before)

    with hooks(block.register_forward_pre_hook(put, with_kwargs=True), block.register_forward_hook(keep)):
        net(IDS, use_cache=False)
    return found[0]


@functools.cache
def model_of(kind: str) -> Model:
    return tiny(kind, torch.float64, seed=4)


@functools.cache
def recorded(kind: str) -> Seen:
    return run(model_of(kind), Batch.of_ids(IDS), read=STATES, record=True)


def protected() -> Tensor:
    """Everywhere but at position 0 and at one other position of row 1."""
    at = torch.ones_like(IDS, dtype=torch.bool)
    at[:, 0], at[1, 4] = False, False
    return at


@functools.cache
def effects(kind: str, budget: int = staircase.BUDGET) -> Effects:
    seen = recorded(kind)
    at = protected()
    variants = skip_variants(seen.model.anatomy, SUBLAYERS)
    return sweep(seen, variants, at, at, budget, splits=SPLITS, reach=REACH, local=True)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected.to(found), rtol=tolerance, atol=tolerance)


def changes(kind: str, name: str, edited: Tensor) -> dict[str, Tensor]:
    """Changes of one variant at every position, by full forwards: [row token], of writes [layer row token]."""
    layer, _, sublayer = name.partition(".")
    (clean, log_p), (moved, log_q) = naive(kind), naive(kind, int(layer), sublayer, edited)
    rise = torch.zeros_like(log_p[..., 0])
    rise[:, :-1] = (log_p - log_q)[:, :-1].gather(-1, IDS[:, 1:, None])[..., 0]
    return {
        "kl": (log_p.exp() * (log_p - log_q)).sum(-1),
        "loss": rise,
        "shift": (log_p.exp() - log_q.exp()).norm(dim=-1),
        "changed": ((moved[1:] - moved[:-1]) - (clean[1:] - clean[:-1])).norm(dim=-1),
        "clean": (clean[1:] - clean[:-1]).norm(dim=-1),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_staircase_equals_one_full_forward_of_transformers_a_variant(kind: str) -> None:
    found, at = effects(kind), protected()
    for place, name in enumerate(found.names):
        expected = {key: (value * at).sum(-1) for key, value in changes(kind, name, at).items()}
        close(found.output_kl[place], expected["kl"], TOLERANCE.get(kind, 1e-9))
        close(found.loss_increase[place], expected["loss"], TOLERANCE.get(kind, 1e-9))
        close(found.shift[place], expected["shift"], TOLERANCE.get(kind, 1e-9))
        close(found.changed[place], expected["changed"], TOLERANCE.get(kind, 1e-9))


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_of_every_split_equals_one_full_forward_a_variant_and_split(kind: str) -> None:
    found, token = effects(kind), torch.arange(IDS.shape[1])
    for place, name in enumerate(found.names):
        total = dict.fromkeys(("kl", "loss", "shift", "changed", "clean"), torch.zeros(()))
        for t in SPLITS.T[:, :, None]:
            later = protected() & (t >= 0) & (token >= t) & (token < t + REACH)
            for key, value in changes(kind, name, protected() & (token < t)).items():
                total[key] = total[key] + (value * later).sum(-1)
        close(found.future_kl[place], total["kl"], TOLERANCE.get(kind, 1e-9))
        close(found.future_loss[place], total["loss"], TOLERANCE.get(kind, 1e-9))
        close(found.future_shift[place], total["shift"], TOLERANCE.get(kind, 1e-9))
        close(found.future_changed[place], total["changed"], TOLERANCE.get(kind, 1e-9))
        close(found.future_clean, total["clean"], TOLERANCE.get(kind, 1e-9))


@pytest.mark.parametrize("kind", KINDS)
def test_the_direct_path_equals_a_layer_that_alone_reads_what_the_skip_left(kind: str) -> None:
    found, at = effects(kind), protected()
    clean = naive(kind)[0]
    for place, name in enumerate(found.names):
        layer, _, sublayer = name.partition(".")
        own = clean[int(layer) + 1] - naive(kind, int(layer), sublayer, at)[0][int(layer) + 1]
        for later in range(len(clean) - 1):
            expected = own
            if later > int(layer):
                expected = naive_write(kind, later, clean[later] - own) - (clean[later + 1] - clean[later])
            elif later < int(layer):
                expected = torch.zeros_like(own)
            close(
                found.local_changed[place, later],
                (expected.norm(dim=-1) * at).sum(-1),
                TOLERANCE.get(kind, 1e-9),
            )


def test_each_position_holds_its_relative_change_and_shift() -> None:
    found, at, token = effects("llama"), protected(), torch.arange(IDS.shape[1])
    expected = changes("llama", found.names[3], at)
    ratio = expected["changed"] / expected["clean"]
    for each, value in ((found.relative[3], ratio), (found.shifts[3], expected["shift"])):
        close(each.isnan(), ~at.expand(each.shape), 0)
        close(each.nan_to_num(), (value * at).float(), 1e-6)
    # 4 + 4 + 1 places: positions 3-6, 8-10 of row 0; 2-5, 6-9 and 10 of row 1, whose position 4 is protected
    later = changes("llama", found.names[3], at & (token < 3))["shift"]
    close(found.future_shifts[3, 0, :4], later[0, 3:7], 1e-6)
    assert found.future_shifts[3].isnan().tolist() == [
        [False] * 7 + [True] * 2,
        [k == 2 for k in range(9)],
        [True] * 9,
    ]
    assert found.future_relative.shape == (len(found.names), 4, 3, 9)


def test_a_whole_skip_obeys_the_structure_of_its_maps() -> None:
    for kind in KINDS:
        found = effects(kind)
        for place, name in enumerate(found.names):
            layer, _, sublayer = name.partition(".")
            own = int(layer)
            assert float(found.future_changed[place, : own + 1].abs().max()) == 0, (
                "future columns up to l = s"
            )
            assert not own or float(found.changed[place, :own].abs().max()) == 0, "columns before the skip"
            if sublayer == "block":
                close(found.changed[place, own], found.clean[own])
                close(found.local_changed[place, own], found.clean[own])
            if own == len(found.clean) - 1:
                assert float(found.future_shift[place].max()) < 1e-12, (
                    "the last layer reaches no later position"
                )
        assert float(found.shifts.nan_to_num().max()) <= 2**0.5
        assert float(found.shift.min()) > 0


CAUSAL = [n for n in FAMILIES.names if FAMILIES[n].reads == "tokens" and FAMILIES[n].causal]


@pytest.mark.parametrize("name", CAUSAL)
def test_branches_behind_a_row_equal_whole_rows_in_every_family(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(name, torch.float64)
    seen = run(model, IDS[:2], read=STATES, record=True)
    stairs = (seen, skip_variants(model.anatomy), protected()[:2], protected()[:2])
    behind = sweep(*stairs, splits=SPLITS[:2], reach=REACH)
    monkeypatch.setattr(Boughs, "_attends", lambda *_: False)
    whole = sweep(*stairs, splits=SPLITS[:2], reach=REACH)
    for key in ("future_kl", "future_loss", "future_shift", "future_changed", "output_kl", "changed"):
        close(getattr(behind, key), getattr(whole, key), TOLERANCE.get(name, 1e-9))
    mixing = all(layer.attn is not None and layer.ssm is None for layer in model.anatomy.layers)
    length, places, rows, depth = 11, 9, 2, model.anatomy.n_layers
    row = length + places if mixing else None
    if row is not None:
        assert behind.layer_tokens == rows * row * depth * (depth + 1) // 2
    assert whole.layer_tokens == rows * 4 * length * depth * (depth + 1) // 2
    assert float(behind.future_kl[:-1].max()) > 1e-9


def test_a_layer_whose_clean_stream_comes_back_changed_gets_whole_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = Boughs._mask
    # a mask that lets every entry see all others, as a block would that does not listen to it
    monkeypatch.setattr(Boughs, "_mask", lambda self, recorded: torch.ones_like(mask(self, recorded)))
    seen = recorded("llama")
    found = sweep(
        seen, skip_variants(seen.model.anatomy), protected(), protected(), splits=SPLITS, reach=REACH
    )
    blocks = [k for k, name in enumerate(effects("llama").names) if name.endswith("block")]
    close(found.future_kl, effects("llama").future_kl[blocks])
    close(found.output_kl, effects("llama").output_kl[blocks])


def test_a_reach_beyond_the_row_ends_with_the_row_and_no_splits_give_zeros() -> None:
    seen = recorded("llama")
    stairs = (seen, skip_variants(seen.model.anatomy), protected(), protected())
    far = sweep(*stairs, splits=SPLITS, reach=10**6)
    assert far.future_positions.tolist() == [8 + 3, 8 + 5 + 1, 0]
    assert far.future_targets.tolist() == [7 + 2, 7 + 4 + 0, 0]
    none = sweep(*stairs)
    assert none.future_positions.tolist() == [0, 0, 0]
    assert float(none.future_kl.abs().max()) == float(none.local_changed.abs().max()) == 0
    close(none.output_kl, far.output_kl)


def test_splits_that_make_no_sense_are_refused() -> None:
    seen = recorded("llama")
    variants = skip_variants(seen.model.anatomy)
    with pytest.raises(BadInput, match="3 rows of 11 tokens; found 3 rows, the last split at 40"):
        sweep(seen, variants, protected(), protected(), splits=SPLITS + 30)
    reads = [Variant("stream", (edits.zero("L1.resid_pre"),))]
    with pytest.raises(BadInput, match=r"an edit of L1\.resid_pre reaches later positions in its own layer"):
        sweep(seen, reads, protected(), protected(), splits=SPLITS)
    bert = tiny("bert")
    both_ways = run(bert, IDS, read=STATES, record=True)
    with pytest.raises(Refused, match="every position sees every other, so it has no future tokens"):
        sweep(both_ways, skip_variants(bert.anatomy), protected(), protected(), splits=SPLITS)


@pytest.mark.parametrize("kind", KINDS)
def test_clean_writes_and_counts_are_those_of_the_measured_positions(kind: str) -> None:
    found, clean = effects(kind), naive(kind)[0]
    close(found.clean, ((clean[1:] - clean[:-1]).norm(dim=-1) * protected()).sum(-1))
    assert found.positions.tolist() == [10, 9, 10]
    assert found.targets.tolist() == [9, 8, 9]
    assert found.floor_kl < 1e-12
    assert found.floor_loss < 1e-12
    assert float(found.floor_changed.max()) < 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_of_one_row_a_group_changes_nothing(kind: str) -> None:
    together, alone = effects(kind), effects(kind, budget=1)
    for name in ("output_kl", "loss_increase", "shift", "changed", "clean"):
        close(getattr(alone, name), getattr(together, name))
    for name in ("future_kl", "future_loss", "future_shift", "future_changed", "local_changed"):
        close(getattr(alone, name), getattr(together, name))


def test_the_budget_bounds_the_rows_of_one_block_call(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, rows = recorded("llama"), []
    call = Boughs.call

    def counting(self: Boughs, layer: int, stream: Tensor, edit: Sequence[edits.Edit] = ()) -> Tensor:
        rows.append(len(stream))
        return call(self, layer, stream, edit)

    monkeypatch.setattr(Boughs, "call", counting)
    variants = skip_variants(seen.model.anatomy)
    sweep(seen, variants, protected(), protected(), budget=1)
    assert rows == [3] * (1 + 2 + 3 + 4)  # the clean stream rides along from the first layer that is skipped
    rows.clear()
    sweep(seen, variants, protected(), protected())
    assert rows == [3, 6, 9, 12]
    rows.clear()
    sweep(seen, variants[2:], protected(), protected())
    assert rows == [3, 6]


def test_nothing_changes_before_the_skipped_layer() -> None:
    found = effects("llama")
    for place, name in enumerate(found.names):
        layer = int(name.partition(".")[0])
        assert found.changed[place, :layer].abs().max() == 0 if layer else True
        assert float(found.changed[place, layer].min()) > 0


def test_a_skipped_block_changes_its_own_write_by_all_of_it() -> None:
    found = effects("gpt2")
    for place, name in enumerate(found.names):
        layer, _, sublayer = name.partition(".")
        if sublayer == "block":
            close(found.changed[place, int(layer)], found.clean[int(layer)])


def test_skipping_the_last_layer_cannot_reach_positions_that_were_protected() -> None:
    seen = recorded("llama")
    edited, measured = torch.zeros_like(protected()), torch.zeros_like(protected())
    edited[:, 3], measured[:, 6] = True, True
    found = sweep(seen, skip_variants(seen.model.anatomy), edited, measured)
    assert float(found.output_kl[-1].max()) < 1e-12
    assert float(found.output_kl[0].min()) > 1e-6


def test_every_layer_with_a_sublayer_has_its_variant_and_each_has_another_name() -> None:
    names = [v.name for v in skip_variants(tiny("jamba").anatomy, SUBLAYERS)]
    assert names[:3] == ["0.block", "0.attention", "0.mlp"]
    assert len(set(names)) == len(names) == 3 * tiny("jamba").anatomy.n_layers
    assert [v.name for v in skip_variants(tiny("mamba").anatomy, SUBLAYERS)][:2] == ["0.block", "0.attention"]


def test_two_variants_of_one_name_are_refused() -> None:
    seen = recorded("llama")
    twice = [Variant("a", (edits.skip(0),)), Variant("a", (edits.skip(1),))]
    with pytest.raises(BadInput, match="share a name"):
        sweep(seen, twice, protected(), protected())


def test_a_pass_that_was_not_recorded_is_refused() -> None:
    seen = run(model_of("llama"), IDS, read=STATES)
    with pytest.raises(Refused, match="record=True"):
        sweep(seen, skip_variants(seen.model.anatomy), protected(), protected())


def test_a_sweep_leaves_no_hook_and_does_not_move_the_recorded_pass() -> None:
    model = tiny("llama", torch.float64)
    seen = run(model, IDS, read=STATES, record=True)
    before = seen.states().clone()
    sweep(seen, skip_variants(model.anatomy, SUBLAYERS), protected(), protected())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.net.modules())
    close(seen.states(), before, 0)
