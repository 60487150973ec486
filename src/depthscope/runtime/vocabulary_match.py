"""What a vector of the stream says as a distribution over tokens, and another vector that says the same.

Source: Todd et al. 2024 (arXiv 2310.15213), section 3.2: a vector rebuilt from the tokens it decodes to does less than
the vector itself, so what it does is more than what it says.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.runtime.model import Model

RATE = 0.5
"""Adam's step; the scale of what is fitted is free, so it shrinks in effect as the fitted vector grows."""


@torch.no_grad()
def said(model: Model, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_vocab"]:
    """softmax(W_U norm(vector)): probabilities of tokens where the vector alone is decoded."""
    return torch.softmax(model.head.logits(vector.to(model.device)).double(), dim=-1).cpu()


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A vector made from another one's tokens.

    Args:
        vector: as long as the other one. divergence: KL(other || vector) in nats over the tokens that were matched,
            renormalised. cosine: to the other one.
    """

    vector: Float[Tensor, " d_model"]
    divergence: float
    cosine: float


def rebuilt(
    model: Model, vector: Float[Tensor, " d_model"], words: int = 100, steps: int = 1000, seed: int = 0
) -> Rebuilt:
    """Another vector whose likeliest tokens have the same probabilities, found from a random one by Adam.

    The best step is kept. Where all tokens are matched exactly, the vector itself comes back, for the unembedding has
    as many directions as the stream: then it is the descent that is judged.

    Args:
        words: so many of the likeliest tokens are matched, 0 for all. steps: of Adam, at rate 0.5.

    Raises:
        BadInput: for less than 2 words or 1 step.
    """
    if words == 1 or min(words, steps - 1) < 0:
        raise BadInput(f"words={words}, steps={steps}; at least 2 words (0 for all) and 1 step")
    goal = vector.to(model.device, model.head.precision)
    ids = (
        None
        if words == 0
        else said(model, goal).topk(min(words, model.head.d_vocab)).indices.to(model.device)
    )
    with torch.no_grad():
        wanted = torch.log_softmax(model.head.graded(goal, ids), dim=-1)
    drawn = torch.randn(len(goal), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    best, divergence = _descended(model, wanted, ids, drawn.to(goal), steps)
    found = best * (torch.linalg.vector_norm(goal) / torch.linalg.vector_norm(best))
    cosine = torch.nn.functional.cosine_similarity(found.double(), goal.double(), dim=0)
    return Rebuilt(found.to(vector), divergence, float(cosine))


def _descended(
    model: Model, wanted: Tensor, ids: Int[Tensor, " id"] | None, start: Tensor, steps: int
) -> tuple[Tensor, float]:
    """The best of all steps, and its divergence."""
    with torch.enable_grad():
        x = start.clone().requires_grad_()
        descent = torch.optim.Adam([x], lr=RATE)
        best, lowest = start, float("inf")
        for _ in range(steps):
            own = torch.log_softmax(model.head.graded(x, ids), dim=-1)
            loss = (wanted.exp() * (wanted - own)).sum()
            if loss.item() < lowest:
                best, lowest = x.detach().clone(), loss.item()
            (x.grad,) = torch.autograd.grad(loss, [x])
            descent.step()
    return best, lowest
