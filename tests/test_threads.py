"""Work spread over threads comes back in order, the same on any number of them, and leaves the number as it was."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from depthscope.measures.gram import spectrum_of, token_gram
from depthscope.threads import one_thread, spread

INSIDE: list[tuple[int, bool]] = []


def work(vectors: torch.Tensor) -> torch.Tensor:
    INSIDE.append((torch.get_num_threads(), torch.is_grad_enabled()))
    return spectrum_of(token_gram(vectors))


@pytest.mark.parametrize("threads", [1, 2])
def test_work_is_done_on_one_thread_each_and_comes_back_in_order(threads: int) -> None:
    clouds = [torch.randn(2, 12, 9) * (k + 1) + k for k in range(5)]
    torch.set_num_threads(threads)
    INSIDE.clear()
    found = spread(work, clouds)
    assert torch.get_num_threads() == threads
    assert INSIDE == [(1, False)] * 5
    for ours, cloud in zip(found, clouds, strict=True):
        assert_close(ours, spectrum_of(token_gram(cloud)), rtol=0, atol=1e-12)


def test_an_error_in_the_work_is_raised_and_the_number_restored() -> None:
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        spread(lambda x: 1 // x, [1, 0])
    assert torch.get_num_threads() == 2
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
