"""The staircase against the naive loop: one full forward of transformers a variant, written here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from depthscope.errors import BadInput, Refused
from depthscope.runtime import edits
from depthscope.runtime import sweep as staircase
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen, run
from depthscope.runtime.sweep import Effects, Variant, skip_variants, sweep
from depthscope.runtime.tiny import tiny

STATES = ("L0.resid_pre", "L*.resid_post")
SUBLAYERS = ("block", "attention", "mlp")
KINDS = ("llama", "gpt2", "gpt_neox")
IDS = torch.randint(3, 96, (3, 11), generator=torch.Generator().manual_seed(2))


@dataclass(frozen=True)
class Where:
    """Where a family keeps its parts, for the loop below."""

    blocks: str
    attention: str
    mlp: str
    norm: str
    unembed: str


WHERE = {
    "llama": Where("model.layers", "self_attn", "mlp", "model.norm", "lm_head"),
    "gpt2": Where("transformer.h", "attn", "mlp", "transformer.ln_f", "lm_head"),
    "gpt_neox": Where("gpt_neox.layers", "attention", "mlp", "gpt_neox.final_layer_norm", "lm_head"),
}


@contextmanager
def replaced(module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """A module's output becomes change(input, output)."""

    def hook(_: nn.Module, args: tuple, kwargs: dict, output: Tensor | tuple) -> Tensor | tuple:
        before = args[0] if args else kwargs["hidden_states"]
        if isinstance(output, tuple):
            return (change(before, output[0]), *output[1:])
        return change(before, output)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def module_of(kind: str, layer: int, sublayer: str) -> nn.Module:
    block = model_of(kind).net.get_submodule(f"{WHERE[kind].blocks}.{layer}")
    return block if sublayer == "block" else block.get_submodule(getattr(WHERE[kind], sublayer))


@torch.no_grad()
def naive_states(kind: str, layer: int = -1, sublayer: str = "", at: Tensor | None = None) -> Tensor:
    """All states of one full forward, a layer or sublayer adding nothing at some positions."""
    net, found = model_of(kind).net, []
    blocks = net.get_submodule(WHERE[kind].blocks)

    def keep(_: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    def leave_out(before: Tensor, after: Tensor) -> Tensor:
        assert at is not None
        nothing = before if sublayer == "block" else torch.zeros_like(after)
        return torch.where(at[..., None], nothing, after)

    places = [*blocks, net.get_submodule(WHERE[kind].norm)]
    handles = [m.register_forward_pre_hook(keep, with_kwargs=True) for m in places]
    try:
        if layer < 0:
            net(IDS, use_cache=False)
        else:
            with replaced(module_of(kind, layer, sublayer), leave_out):
                net(IDS, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)


@torch.no_grad()
def naive_log_p(kind: str, state: Tensor) -> Tensor:
    net = model_of(kind).net
    unembed = net.get_submodule(WHERE[kind].unembed)
    return torch.log_softmax(unembed(net.get_submodule(WHERE[kind].norm)(state)), -1)


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
    return sweep(seen, skip_variants(seen.model.anatomy, SUBLAYERS), protected(), protected(), budget)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected.to(found), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_the_staircase_equals_one_full_forward_of_transformers_a_variant(kind: str) -> None:
    found, at = effects(kind), protected()
    clean = naive_states(kind)
    log_p = naive_log_p(kind, clean[-1])
    targets = IDS[:, 1:, None]
    for place, name in enumerate(found.names):
        layer, _, sublayer = name.partition(".")
        edited = naive_states(kind, int(layer), sublayer, at)
        log_q = naive_log_p(kind, edited[-1])
        close(found.output_kl[place], ((log_p.exp() * (log_p - log_q)).sum(-1) * at).sum(-1))
        rise = (log_p - log_q)[:, :-1].gather(-1, targets)[..., 0]
        close(found.loss_increase[place], (rise * at[:, :-1]).sum(-1))
        moved = (edited[1:] - edited[:-1]) - (clean[1:] - clean[:-1])
        close(found.changed[place], (moved.norm(dim=-1) * at).sum(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_clean_writes_and_counts_are_those_of_the_measured_positions(kind: str) -> None:
    found, clean = effects(kind), naive_states(kind)
    close(found.clean, ((clean[1:] - clean[:-1]).norm(dim=-1) * protected()).sum(-1))
    assert found.positions.tolist() == [10, 9, 10]
    assert found.targets.tolist() == [9, 8, 9]
    assert found.floor_kl < 1e-12
    assert found.floor_loss < 1e-12
    assert float(found.floor_changed.max()) < 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_of_one_row_a_group_changes_nothing(kind: str) -> None:
    together, alone = effects(kind), effects(kind, budget=1)
    for name in ("output_kl", "loss_increase", "changed", "clean"):
        close(getattr(alone, name), getattr(together, name))


def test_the_budget_bounds_the_rows_of_one_block_call(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, rows = recorded("llama"), []
    call = staircase.call_block

    def counting(seen: Seen, layer: int, stream: Tensor) -> Tensor:
        rows.append(len(stream))
        return call(seen, layer, stream)

    monkeypatch.setattr(staircase, "call_block", counting)
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
