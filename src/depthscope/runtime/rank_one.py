"""Rank-one insertion: one key and one value are put into an MLP's last projection, and everything else stays near.

W' = W + delta (C^-1 k)^T / (k^T C^-1 k), with C the second moment of keys over a text: then W' k = W k + delta, and a
key that is orthogonal to k under C^-1 gives what it gave. Source: Meng et al. 2022 (arXiv 2202.05262), section 3.1.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from depthscope.errors import BadInput, NonFinite
from depthscope.ranges import above, at_least, check_ranges
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.memories import mlp_of, projection
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.path_gradient import frozen
from depthscope.runtime.run import run


@dataclass(frozen=True)
class Spot:
    """A prompt with the place of a subject's last token, and what should follow it.

    Args:
        ids: the prompt. at: place of the subject's last token. target: ids that should follow.
    """

    ids: tuple[int, ...]
    at: int
    target: tuple[int, ...]


@dataclass(frozen=True)
class Descent:
    """How the change of the value is found.

    Args:
        steps: of Adam, at most. rate: of it. enough: the loss in nats at which it stops. clamp: the longest change, in
            lengths of what the projection gave. decay: weight of |delta|^2 / |v|^2.
    """

    steps: int = 25
    rate: float = 0.3
    enough: float = 0.05
    clamp: float = 4.0
    decay: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, steps=at_least(1), rate=above(0), clamp=above(0), decay=at_least(0))


@dataclass(frozen=True)
class Change:
    """What was found: the change of the value, steps taken, the last loss."""

    delta: Float[Tensor, " d_model"]
    steps: int
    loss: float


@torch.no_grad()
def key_at(model: Model, layer: int, spots: Sequence[Spot]) -> Float[Tensor, " d_mlp"]:
    """Mean of what the projection reads at the subjects' last tokens."""
    site = f"L{layer}.mlp_hidden"
    keys = [run(model, Batch.of_ids([spot.ids]), read=[site])[site][0, spot.at] for spot in spots]
    return torch.stack(keys).mean(0)


@torch.no_grad()
def second_moment(
    model: Model, layer: int, batches: Iterable[Batch], ridge: float = 1e-2
) -> Float[Tensor, "d_mlp d_mlp"]:
    """Mean of k k^T over all positions, float64, plus `ridge` times the mean diagonal of positions from 1 on.

    First positions count here: the key of a sink is so long that what a change gives it otherwise ruins the model. They
    do not count in the ridge, which would be set by them alone.

    Raises:
        BadInput: where there is no position behind a first one.
    """
    site, total, square, count, behind = f"L{layer}.mlp_hidden", torch.zeros(1), 0.0, 0, 0
    for batch in batches:
        used = batch.mask.clone()
        used[:, 0] = False
        read = run(model, batch, read=[site])[site].double()
        keys = read[batch.mask.bool()]
        total, count = total.to(keys) + keys.T @ keys, count + len(keys)
        square, behind = square + float(read[used.bool()].square().mean(-1).sum()), behind + int(used.sum())
    if not behind:
        raise BadInput("the second moment of keys needs a position behind the first one; there is none")
    found = total / count
    return found + ridge * square / behind * torch.eye(len(found), dtype=found.dtype, device=found.device)


def inserted(
    weight: Float[Tensor, "d_model d_mlp"],
    key: Float[Tensor, " d_mlp"],
    delta: Float[Tensor, " d_model"],
    moment: Float[Tensor, "d_mlp d_mlp"],
) -> Float[Tensor, "d_model d_mlp"]:
    """The projection with one more pair, float64: `key` gives `delta` more, unrelated keys give what they gave."""
    row = torch.linalg.solve(moment.double(), key.double())
    return weight.double() + torch.outer(delta.double(), row / (key.double() @ row))


@contextmanager
def holding(model: Model, layer: int, weight: Float[Tensor, "d_model d_mlp"]) -> Generator[None]:
    """A block of code in which a layer's last projection has other weights; the former ones are put back."""
    held, turned = projection(model, layer)
    before = held.detach().clone()
    try:
        with torch.no_grad():
            held.copy_((weight.T if turned else weight).to(held))
        yield
    finally:
        with torch.no_grad():
            held.copy_(before)


def change_for(model: Model, layer: int, spots: Sequence[Spot], how: Descent) -> Change:
    """The change of the projection's output at the subjects' last tokens that makes the targets follow.

    Adam on the mean negative log-likelihood of the targets, with decay, the change clamped.

    Raises:
        NonFinite: where the loss is not finite.
    """
    proj = mlp_of(model, layer).proj
    assert proj is not None
    given: list[Tensor] = []
    with torch.no_grad(), hooked([Tap(proj, "out", lambda y: given.append(y[0, spots[0].at]))]):
        run(model, Batch.of_ids([spots[0].ids]), read=[f"L{layer}.resid_post"])
    with frozen(model.net):  # or each step would fill in the gradients of all weights
        return _descended(model, proj, spots, given[0], how, layer)


def _descended(
    model: Model, proj: nn.Module, spots: Sequence[Spot], given: Tensor, how: Descent, layer: int
) -> Change:
    """Adam from no change at all."""
    length = torch.linalg.vector_norm(given).detach()
    delta = torch.zeros_like(given, requires_grad=True)
    descent, loss, step = torch.optim.Adam([delta], lr=how.rate), float("inf"), 0
    for step in range(1, how.steps + 1):
        total = torch.stack([_surprise(model, proj, spot, delta) for spot in spots]).mean()
        loss = float(total.detach())
        if not torch.isfinite(total):
            raise NonFinite(f"the loss of an insertion into layer {layer} is {loss}; give a smaller rate")
        if loss < how.enough or step == how.steps:
            break
        (total + how.decay * (delta @ delta) / length**2).backward()
        descent.step()
        descent.zero_grad(set_to_none=True)
        with torch.no_grad():
            delta.mul_((how.clamp * length / torch.linalg.vector_norm(delta).clamp_min(1e-12)).clamp(max=1.0))
    return Change(delta.detach(), step, loss)


def _surprise(model: Model, proj: nn.Module, spot: Spot, delta: Tensor) -> Tensor:
    """Negative log-likelihood in nats of a target behind its prompt, the change added at the subject."""
    ids = torch.tensor([[*spot.ids, *spot.target]], device=model.device)
    with torch.enable_grad(), hooked([Tap(proj, "out", partial(_added, spot.at, delta))]):
        logits = model.net(input_ids=ids).logits[0, len(spot.ids) - 1 : -1].float()
    wanted = torch.tensor(spot.target, device=logits.device)
    return -torch.log_softmax(logits, -1).gather(-1, wanted[:, None]).sum()


def _added(at: int, delta: Tensor, output: Tensor) -> Tensor:
    place = torch.zeros(output.shape[1], 1, dtype=output.dtype, device=output.device)
    place[at] = 1
    return output + place * delta
