"""Orders of layers against networks of transformers whose list of blocks is put together anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from depthscope.errors import BadInput, Refused
from depthscope.runtime import orders as walked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.orders import Order, ends, evaluations, separate_evaluations, without
from depthscope.runtime.replay import Parallel, Step, Without, fixed_order, replay
from depthscope.runtime.run import Seen, run
from depthscope.runtime.surgery import PLANS, SINGLE, Middle, middles, single_plans
from depthscope.runtime.tiny import tiny

L = 6
IDS = torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", torch.float64, seed=3, num_hidden_layers=L)


@pytest.fixture(scope="module")
def seen(model: Model) -> Seen:
    return run(model, Batch.of_ids(IDS), read=["L0.resid_pre", "L*.resid_post"], record=True)


class Side(nn.Module):
    """Blocks side by side; `writes` adds what they write, else their outputs are averaged."""

    def __init__(self, blocks: Sequence[nn.Module], writes: bool) -> None:
        super().__init__()
        self.blocks, self.writes = nn.ModuleList(blocks), writes

    def forward(self, hidden_states: Tensor, **given: Any) -> Tensor:
        outputs = [block(hidden_states, **given) for block in self.blocks]
        if self.writes:
            return hidden_states + sum(out - hidden_states for out in outputs)
        return sum(outputs) / len(outputs)  # type: ignore[return-value]


def block_of(blocks: nn.ModuleList, step: Step) -> nn.Module:
    """A step as a module of its own."""
    if isinstance(step, int):
        return blocks[step]
    if isinstance(step, Parallel):
        return Side([blocks[k] for k in step.layers], step.join == "sum")
    block = copy.deepcopy(blocks[step.layer])
    last = block.self_attn.o_proj if step.sublayer == "attention" else block.mlp.down_proj
    nn.init.zeros_(last.weight)  # type: ignore[union-attr, arg-type]
    return block


@torch.no_grad()
def rebuilt(model: Model, order: Order) -> Tensor:
    """The input of the final norm of a network made of those steps."""
    net: Any = copy.deepcopy(model.net)
    net.model.layers = nn.ModuleList(block_of(net.model.layers, step) for step in order)
    net.config.num_hidden_layers = len(order)
    found: list[Tensor] = []
    net.model.norm.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    net(IDS, use_cache=False)
    return found[0]


def every_order(model: Model) -> dict[str, Order]:
    planned = dict(Middle(1, 5, L).plans(seed=4))
    return planned | {
        f"{layer}.{kind}": order for (layer, kind), order in single_plans(model.anatomy).items()
    }


def test_every_plan_is_the_network_with_its_blocks_put_together_anew(model: Model, seen: Seen) -> None:
    asked = every_order(model)
    found = dict(ends(seen, list(asked.values())))
    assert set(asked) == {*PLANS, *(f"{k}.{kind}" for k in range(L) for kind in SINGLE)} - {f"{L - 1}.swap"}
    for place, (name, order) in enumerate(asked.items()):
        expected = rebuilt(model, order)
        torch.testing.assert_close(found[place], expected, rtol=1e-9, atol=1e-9, msg=name)
        one = replay(seen, 0, order=order)[f"L{L - 1}.resid_post"]
        torch.testing.assert_close(one, expected, rtol=1e-9, atol=1e-9)


def test_plans_are_the_steps_that_their_names_say() -> None:
    found = Middle(1, 4, 6).plans(loops=2, parallel_loops=2, seed=0)
    side = Parallel((1, 2, 3))
    assert found["skip"] == (0, 4, 5)
    assert found["reverse"] == (0, 3, 2, 1, 4, 5)
    assert found["repeat_centre"] == (0, 3, 3, 3, 4, 5)
    assert found["loop"] == (0, 1, 2, 3, 1, 2, 3, 4, 5)
    assert found["loop_parallel"] == (0, side, side, 4, 5)
    assert found["parallel_mean"] == (0, side, 4, 5)
    assert found["parallel_sum"] == (0, Parallel((1, 2, 3), "sum"), 4, 5)
    assert sorted(found["shuffle"][1:4]) == [1, 2, 3]  # type: ignore[type-var]
    assert found["shuffle"] != (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(("kept", "first", "last"), [(25, 13, 17), (24, 12, 17), (1, 1, 29), (0, 0, 29)])
def test_the_middle_leaves_the_painters_first_and_last_layers(kept: int, first: int, last: int) -> None:
    middle = Middle.of_kept(kept, 30)
    assert (middle.layers[0], middle.layers[-1]) == (first, last)


def test_by_default_a_fifth_two_and_three_fifths_are_altered() -> None:
    assert {kept: (m.start, m.stop) for kept, m in middles(30).items()} == {
        24: (12, 18),
        18: (9, 21),
        12: (6, 24),
    }
    assert {kept: (m.start, m.stop) for kept, m in middles(2).items()} == {0: (0, 2)}


def test_a_shared_beginning_runs_once_and_the_recorded_one_not_at_all(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Step] = []
    real = walked.run_step
    monkeypatch.setattr(walked, "run_step", lambda s, step, x: (ran.append(step), real(s, step, x))[1])
    orders = [without(L, {2}), without(L, {2, 4}), without(L, ()), without(L, {2})]
    found = dict(ends(seen, orders))
    # 3, 4, 5 behind the gap; of the second order only 5 behind the second gap; nothing of the other two
    assert ran == [3, 4, 5, 5]
    assert evaluations(orders) == len(ran)
    assert separate_evaluations(orders) == 5 + 4 + 6 + 5
    torch.testing.assert_close(found[0], found[3], rtol=0, atol=0)
    torch.testing.assert_close(found[2], seen[f"L{L - 1}.resid_post"], rtol=0, atol=0)
    assert evaluations([(0, Parallel((1, 2)), 3)]) == 3


def test_a_removed_first_layer_starts_from_the_embedding(model: Model, seen: Seen) -> None:
    ((_, found),) = ends(seen, [without(L, {0})])
    torch.testing.assert_close(found, rebuilt(model, without(L, {0})), rtol=1e-9, atol=1e-9)


def test_layers_that_share_keys_and_values_may_not_move(model: Model) -> None:
    assert fixed_order(model.anatomy) == ""
    block: Any = model.anatomy.layers[4].block
    block.self_attn.is_kv_shared_layer = True
    try:
        assert fixed_order(model.anatomy) == (
            "layer 4 reads the keys and values of an earlier layer, so no layer may be left out or change places"
        )
    finally:
        del block.self_attn.is_kv_shared_layer


def test_wrong_steps_are_clear_errors(model: Model) -> None:
    with pytest.raises(BadInput, match="at least one layer"):
        Parallel(())
    with pytest.raises(BadInput, match=r"kept=\[6\]; of 6 layers 0 to 5"):
        middles(6, (6,))
    with pytest.raises(BadInput, match="layers 3 to 2 are no stretch"):
        Middle(3, 3, 6)
    with pytest.raises(BadInput, match="'dropp' is none of them"):
        single_plans(model.anatomy, ("dropp",))
    mamba = tiny("mamba", torch.float64)
    clean = run(mamba, Batch.of_ids(IDS), read=["L0.resid_pre", "L*.resid_post"], record=True)
    with pytest.raises(Refused, match="layer 1 of mamba has no mlp that could be left out"):
        replay(clean, 0, order=[0, Without(1, "mlp")])
