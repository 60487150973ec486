"""Answers whose prompts are read ablated too are those of full passes under the same ablation."""

from __future__ import annotations

import torch
from torch import Tensor

from depthscope.runtime.ablated_answers import answers_under
from depthscope.runtime.head_ablation import Ablation, ablated
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.tiny import tiny

PROMPT = [5, 9, 7, 30, 9, 11, 4, 8, 2, 3, 1, 6]
HEADS = ((0, 1), (2, 3))
LENGTH = 4


def written_with_constant(model: Model, means: Tensor) -> list[int]:
    """Greedy tokens by full passes of the network, the heads' inputs of the output projection put to constants."""

    def put(layer: int, head: int):
        def hook(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = args[0].unflatten(-1, (4, -1)).clone()
            z[:, :, head] = means[layer, head]
            return (z.flatten(-2),)

        return model.net.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook)  # type: ignore[union-attr, index]

    handles = [put(*head) for head in HEADS]
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(LENGTH):
            ids.append(int(model.net(torch.tensor([ids])).logits[0, -1].argmax()))
    for handle in handles:
        handle.remove()
    return ids[len(PROMPT) :]


def test_a_prompt_read_with_means_is_that_of_full_passes():
    model = tiny("llama")
    means = torch.randn(4, 4, model.anatomy.d_head, dtype=torch.float64)
    places = ("decode_only", "all")
    conditions = [Ablation(HEADS, "mean", at) for at in places] + [Ablation((), "uniform")]
    found = answers_under(model, PROMPT, conditions, LENGTH, means)
    assert found[1].tolist() == written_with_constant(model, means)
    assert found[0].tolist() != found[1].tolist()
    with torch.no_grad():
        assert int(found[2, 0]) == int(model.net(torch.tensor([PROMPT])).logits[0, -1].argmax())


def test_a_prompt_read_streaming_is_that_of_full_passes_in_parts_of_one():
    model = tiny("llama")
    condition = Ablation(HEADS, "stream", "all", start=1, recent=2)
    ids = list(PROMPT)
    for _ in range(LENGTH):
        ((_, seen),) = ablated(model, Batch.of_ids([ids]), [condition])
        ids.append(int(model.head.logits(seen["L3.resid_post"][0, -1:]).argmax()))
    found = answers_under(model, PROMPT, [condition, Ablation((), "uniform"), condition], LENGTH, rows=1)
    assert found[0].tolist() == found[2].tolist() == ids[len(PROMPT) :]
