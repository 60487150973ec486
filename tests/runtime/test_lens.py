"""A lens translates every state but the last, and the untrained one is the logit lens."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput
from depthscope.runtime.lens import LOGIT, Lens

STATES = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def made(scale: float = 1.0, kind: str = "ridge") -> Lens:
    generator = torch.Generator().manual_seed(1)
    weight = scale * torch.randn(3, 6, 6, generator=generator)
    return Lens(kind, kind, weight, scale * torch.randn(3, 6, generator=generator))


def test_the_logit_lens_and_an_untrained_lens_give_the_states_back() -> None:
    torch.testing.assert_close(LOGIT(STATES), STATES, rtol=0, atol=0)
    torch.testing.assert_close(made(0.0)(STATES), STATES, rtol=0, atol=0)


def test_each_state_is_translated_by_its_own_translator_and_the_last_by_none() -> None:
    lens = made()
    assert lens.weight is not None
    assert lens.bias is not None
    found = lens(STATES)
    for s in range(3):
        for p in range(5):
            h = STATES[s, p]
            expected = [
                h[i] + sum(lens.weight[s, i, j].double() * h[j] for j in range(6)) + lens.bias[s, i].double()
                for i in range(6)
            ]
            torch.testing.assert_close(found[s, p], torch.stack(expected))
    torch.testing.assert_close(found[3], STATES[3], rtol=0, atol=0)
    torch.testing.assert_close(lens.at(1, STATES[1]), found[1], rtol=0, atol=0)


def test_states_keep_their_precision() -> None:
    assert made()(STATES).dtype == torch.float64
    assert made()(STATES.float()).dtype == torch.float32


def test_identity_tells_kind_and_numbers_apart() -> None:
    assert made().identity == made().identity
    assert len({made().identity, made(2.0).identity, made(kind="tuned").identity, LOGIT.identity}) == 4


def test_shapes_that_do_not_fit_are_refused_with_what_was_found() -> None:
    with pytest.raises(BadInput, match="one of them is missing"):
        Lens("ridge", "mine", torch.zeros(3, 6, 6), None)
    with pytest.raises(BadInput, match=r"wants weights of \(3, 6, 6\), found \(3, 6, 5\)"):
        Lens("ridge", "mine", torch.zeros(3, 6, 5), torch.zeros(3, 6))
    with pytest.raises(BadInput, match="translates 4 states of width 6, found 5 of width 6"):
        made()(torch.zeros(5, 2, 6))
