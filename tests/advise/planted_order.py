"""A tiny model in which the order of letters cannot be read before state 2, and a task that asks for it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from letters import lettered

from depthscope.runtime.model import Model


def order_model() -> Model:
    """Eight blocks of which only block 1 mixes tokens, each with all before it alike; the others add nothing till 6.

    The mean of the letters' embeddings is the same for any order of them, so states 0 and 1 cannot tell two orders
    apart. Behind block 1 an early letter stands in more of the means than a late one does.
    """
    model = lettered("llama", num_hidden_layers=8)
    with torch.no_grad():
        for layer in model.anatomy.layers:
            block = layer.block
            block.get_submodule("self_attn.o_proj").weight.mul_(30.0 if layer.index == 1 else 0.0)
            block.get_submodule("self_attn.q_proj").weight.zero_()
            block.get_submodule("mlp.down_proj").weight.mul_(1.0 if layer.index >= 6 else 0.0)
    return model


def order_task(folder: Path, items: int = 90) -> Path:
    """Which of two letters comes first; the letters between them are drawn."""
    drawn = random.Random(0)
    rows: list[dict[str, str]] = []
    for k in range(items):
        first, last = "ab" if k % 2 else "ba"
        middle = "".join(drawn.choice("cdefghij") for _ in range(6))
        rows.append({"text": first + middle + last, "label": first + last})
    path = folder / "order.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
