"""How deep something is needed, on effects whose answer can be read off."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput
from depthscope.measures.needed import last_needed


def test_the_last_state_with_a_tenth_of_the_largest_effect() -> None:
    effect = torch.tensor([[0.2, 1.0, 0.0, 0.1, 0.09], [0.0, 0.0, 0.0, 0.0, 3.0], [5.0, 0.4, 0.3, 0.2, 0.1]])
    assert last_needed(effect).tolist() == [3, 4, 0]
    assert last_needed(effect, share=0.05).tolist() == [4, 4, 2]


def test_what_never_mattered_has_no_depth() -> None:
    found = last_needed(torch.tensor([[0.0, 0.0], [1.0, torch.nan]]))
    assert found.isnan().all()


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_shares_that_mean_nothing_are_refused(share: float) -> None:
    with pytest.raises(BadInput, match="above 0 and at most 1"):
        last_needed(torch.ones(2), share)
