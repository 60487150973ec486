"""Erasure leaves everything before the erased position, and at the last state everything else, as it is."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput
from depthscope.runtime.erasure import erased_ends, rows_that_fit
from depthscope.runtime.model import Batch
from depthscope.runtime.run import Seen, run
from depthscope.runtime.tiny import tiny

MODEL = tiny("llama")
EVERYWHERE = torch.arange(9)


def recorded(rows: int = 1) -> Seen:
    ids = torch.arange(3, 3 + 9 * rows).reshape(rows, 9)
    return run(MODEL, Batch.of_ids(ids), read=["L0.resid_pre", "L*.resid_post"], record=True)


def ends(seen: Seen, state: int, **more: int) -> torch.Tensor:
    value = torch.linspace(-1, 1, MODEL.anatomy.d_model, dtype=torch.float64)
    parts = [e for _, e in erased_ends(seen, state, value, EVERYWHERE, EVERYWHERE, **more)]
    return torch.cat([parts[0][:1], *(p[1:] for p in parts)])


@pytest.mark.parametrize("state", range(5))
def test_an_erasure_changes_its_position_and_never_what_stands_before_it(state: int) -> None:
    seen = recorded()
    found = ends(seen, state)
    clean = seen[MODEL.anatomy.states()[-1]][0]
    torch.testing.assert_close(found[0], clean)
    for t in range(9):
        torch.testing.assert_close(found[1 + t, :t], clean[:t])
        assert (found[1 + t, t] - clean[t]).abs().max() > 1e-3


def test_at_the_last_state_only_the_erased_position_changes() -> None:
    found = ends(recorded(), 4)
    changed = (found[1:] != found[:1]).any(-1)
    torch.testing.assert_close(changed, torch.eye(9, dtype=torch.bool))


def test_an_erasure_is_the_pass_of_a_model_whose_block_is_given_another_stream() -> None:
    seen, value = recorded(), torch.linspace(-1, 1, MODEL.anatomy.d_model, dtype=torch.float64)

    def erase(_: object, args: tuple, kwargs: dict) -> tuple:
        stream = args[0].clone()
        stream[0, 3] = value
        return (stream, *args[1:]), kwargs

    handle = MODEL.net.model.layers[2].register_forward_pre_hook(erase, with_kwargs=True)  # type: ignore[union-attr, operator]
    logits = MODEL.net(input_ids=seen.batch.ids, use_cache=False).logits[0]
    handle.remove()
    torch.testing.assert_close(MODEL.head.logits(ends(seen, 2)[4]), logits)


def test_batches_of_another_size_give_the_same() -> None:
    seen = recorded()
    torch.testing.assert_close(ends(seen, 1, budget=1), ends(seen, 1))
    assert rows_that_fit(seen, 1, 1) == 1


def test_several_rows_and_states_that_do_not_exist_are_refused() -> None:
    with pytest.raises(BadInput, match="got 2 rows"):
        ends(recorded(2), 1)
    with pytest.raises(BadInput, match="state from 0 to 4; got 1 rows and state 5"):
        ends(recorded(), 5)
