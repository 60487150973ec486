"""Salience block by block against one backward pass of transformers through the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthscope.runtime.model import Batch
from depthscope.runtime.run import run
from depthscope.runtime.salience import block_saliences
from depthscope.runtime.tiny import tiny

IDS = torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(1))
BLOCKS = {
    "llama": "model.layers",
    "gemma2": "model.layers",
    "gpt_neox": "gpt_neox.layers",
    "rwkv": "rwkv.blocks",
}


def salience_of(block: nn.Module) -> float:
    """Of all weights behind state 0, which is the output of the norm that rwkv has inside its first block."""
    weights = [
        p for name, p in block.named_parameters() if not name.startswith("pre_ln") and p.grad is not None
    ]
    return sum(float((p.detach() * p.grad).abs().sum()) for p in weights)


@pytest.mark.parametrize("kind", list(BLOCKS))
def test_block_by_block_is_one_backward_pass(kind: str) -> None:
    model = tiny(kind, torch.float64)
    net = model.net
    asked = [p.requires_grad for p in net.parameters()]
    seen = run(model, Batch.of_ids(IDS), read=["L0.resid_pre", "L*.resid_post"], record=True)
    found = block_saliences(seen)
    assert [p.requires_grad for p in net.parameters()] == asked
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(True)
    logits: Tensor = net(IDS, use_cache=False).logits[:, :-1].double()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten()).backward()
    expected = [salience_of(block) for block in net.get_submodule(BLOCKS[kind]).children()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert (found > 0).all()
