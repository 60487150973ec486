"""Ranks under vectors are those of plain passes whose last position was pushed by a hook."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from depthscope.engine.function_given import Query
from depthscope.engine.function_uses import ranks_under
from depthscope.materials.icl_tasks import Asking
from depthscope.runtime.tiny import tiny

QUERIES = (Query("ab", "c", True), Query("xy", "q", False))


def pushed(vector: Tensor, _: nn.Module, __: object, output: tuple[Tensor, ...] | Tensor) -> object:
    stream = (output if isinstance(output, Tensor) else output[0]).clone()
    stream[:, -1] += vector
    return stream if isinstance(output, Tensor) else (stream, *output[1:])


def test_ranks_are_those_of_whole_passes_under_plain_hooks():
    model = tiny("gpt2")
    generator = torch.Generator().manual_seed(1)
    vectors = [torch.randn(model.anatomy.d_model, generator=generator, dtype=torch.float64) for _ in range(2)]
    added = {"one": (1, vectors[0]), "none": None, "two": (3, vectors[1])}
    found = ranks_under(model, Asking.of(model), QUERIES, added)
    assert np.isnan(found[:, 1]).all()
    blocks = model.net.transformer.h  # type: ignore[union-attr]
    for row, query in enumerate(QUERIES):
        text = f"Q: {query.input}\nA: "  # a space is a token of its own here
        ids = torch.tensor([model.tokenizer.encode(text)])
        answer = model.tokenizer.encode(query.output)[0]
        for column, (state, vector) in ((0, (1, vectors[0])), (2, (3, vectors[1]))):
            handle = blocks[state - 1].register_forward_hook(partial(pushed, vector))
            with torch.no_grad():
                logits = model.net(ids).logits[0, -1]
            handle.remove()
            assert found[row, column] == 1 + int((logits > logits[answer]).sum())
