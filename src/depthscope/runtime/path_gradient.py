"""Integrated gradients: what each token of one tensor inside the network adds to a target, along a straight path.

Gradients are taken with respect to that tensor alone: everything below it comes from the recorded pass, and parameters
are frozen for the while. A layer that the tensor does not reach is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthscope.anatomy.site import Site
from depthscope.errors import BadInput
from depthscope.runtime.edits import replace_with
from depthscope.runtime.hooks import hooked
from depthscope.runtime.model import Model
from depthscope.runtime.replay import call_block
from depthscope.runtime.run import Seen
from depthscope.runtime.wiring import taps

Target = Callable[[Float[Tensor, "row token width"]], Float[Tensor, " row"]]
"""What is explained, of several versions of the tensor at once."""
BUDGET = 512 * 2**20
"""Bytes that the points of one batch may take, by an estimate of what their gradients must remember."""


@dataclass(frozen=True)
class Part:
    """One tensor inside the network that is moved along the path.

    Args:
        layer: its layer. sites: the writes that are moved together; none means the output of the block.
        value: the writes side by side, or the output, [token width].
    """

    layer: int
    sites: tuple[Site, ...]
    value: Float[Tensor, "token width"]


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of one part.

    Args:
        tokens: what each token adds. difference: target at the value minus target at the baseline. steps: points on
            the path. gap: |sum of tokens - difference|, 0 for an exact integral.
    """

    tokens: Float[Tensor, " token"]
    difference: float
    steps: int
    gap: float


def integrated_gradients(
    target: Target,
    value: Float[Tensor, "token width"],
    baseline: Float[Tensor, "token width"],
    steps: int,
    *,
    left: bool = False,
    rows: int = 32,
) -> Float[Tensor, " token"]:
    """Sum over the width of (value - baseline) times the mean gradient on the straight path between them, float64.

    Args:
        left: take the left end of each step instead of its middle. rows: points that are run at one time.

    Source: Sundararajan, Taly and Yan 2017 (arXiv 1703.01365), section 3; exact for a linear target with any steps, and
    for a quadratic one with middles.
    """
    places = (torch.arange(steps, dtype=value.dtype, device=value.device) + (0.0 if left else 0.5)) / steps
    way = value - baseline
    total = torch.zeros(value.shape, dtype=torch.float64, device=value.device)
    for part in places.split(rows):
        with torch.enable_grad():
            points = (baseline + part[:, None, None] * way).requires_grad_()
            # a copy, since a block may write into the stream it is given
            (slope,) = torch.autograd.grad(target(points.clone()).sum(), points)
        total += slope.double().sum(0)
    return (total / steps * way.double()).sum(-1)


def attributed(
    target: Target,
    value: Float[Tensor, "token width"],
    baseline: Float[Tensor, "token width"],
    *,
    start: int = 32,
    cap: int = 512,
    tolerance: float = 0.02,
    floor: float = 0.0,
    rows: int = 32,
) -> Attribution:
    """Integrated gradients by middles, with twice the steps until the sum is complete.

    Complete: |sum - difference| <= tolerance x max(|difference|, floor). More than `cap` steps are never taken; the gap
    is then left as it is, for the caller to see.
    """
    difference, steps = _difference(target, value, baseline), start
    while True:
        tokens = integrated_gradients(target, value, baseline, steps, rows=rows)
        gap = abs(float(tokens.sum()) - difference)
        if gap <= tolerance * max(abs(difference), floor) or 2 * steps > cap:
            return Attribution(tokens, difference, steps, gap)
        steps *= 2


def by_left_ends(
    target: Target,
    value: Float[Tensor, "token width"],
    baseline: Float[Tensor, "token width"],
    *,
    steps: int = 256,
    rows: int = 32,
) -> Attribution:
    """Integrated gradients by left ends with a fixed number of steps; how complete they are is left to be seen."""
    difference = _difference(target, value, baseline)
    tokens = integrated_gradients(target, value, baseline, steps, left=True, rows=rows)
    return Attribution(tokens, difference, steps, abs(float(tokens.sum()) - difference))


@torch.no_grad()
def _difference(target: Target, value: Tensor, baseline: Tensor) -> float:
    high, low = target(torch.stack([value, baseline])).tolist()
    return high - low


@torch.no_grad()
def part_of(seen: Seen, layer: int, sites: Sequence[Site] = ()) -> Part:
    """The clean value of a block's output, or of some of its writes, in a recorded pass over one row.

    Raises:
        BadInput: for a pass over several rows.
    """
    if seen.batch.rows != 1:
        raise BadInput(f"a path needs a pass over one row, this one has {seen.batch.rows}")
    anatomy = seen.model.anatomy
    if not sites:
        return Part(layer, (), seen[anatomy.states()[layer + 1]][0])
    store: dict[Site, Tensor] = {}
    with hooked(taps(anatomy, sites, (), store, seen.batch.length)):
        call_block(seen, layer, seen[anatomy.states()[layer]])
    return Part(layer, tuple(sites), torch.cat([store[site][0] for site in sites], -1))


def gold_target(seen: Seen, part: Part, marks: Int[Tensor, " mark"], gold: Int[Tensor, " mark"]) -> Target:
    """Summed probability of the gold ids at the marks, as a function of the part; layers above it are run again."""
    anatomy = seen.model.anatomy

    def target(points: Tensor) -> Tensor:
        stream = points if not part.sites else _through(seen, part, points)
        for layer in range(part.layer + 1, anatomy.n_layers):
            stream = call_block(seen, layer, stream)
        return probability(seen.model, stream[:, marks], gold).sum(-1)

    return target


def _through(seen: Seen, part: Part, points: Tensor) -> Tensor:
    """The output of the part's block when its writes are these."""
    anatomy = seen.model.anatomy
    clean = seen[anatomy.states()[part.layer]].repeat(len(points), 1, 1)
    pieces = points.split(anatomy.d_model, -1)
    edits = [replace_with(site, piece) for site, piece in zip(part.sites, pieces, strict=True)]
    with hooked(taps(anatomy, (), edits, {}, seen.batch.length)):
        return call_block(seen, part.layer, clean)


def probability(
    model: Model, ends: Float[Tensor, "row mark d_model"], ids: Int[Tensor, " mark"]
) -> Float[Tensor, "row mark"]:
    """Probability of one id at each mark, with its gradient."""
    log_p = torch.log_softmax(model.head.graded(ends), -1)
    return log_p.gather(-1, ids.expand(log_p.shape[:-1])[..., None])[..., 0].exp()


@contextmanager
def frozen(net: nn.Module) -> Generator[None]:
    """No parameter of the network asks for a gradient while this lasts."""
    asking = [p for p in net.parameters() if p.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def rows_that_fit(seen: Seen, layer: int, marks: int, budget: int = BUDGET) -> int:
    """Points whose remembered tensors above a layer, and whose logits, fit the budget; at least 1."""
    anatomy, length = seen.model.anatomy, seen.batch.length
    width = 12 * anatomy.d_model + 4 * max(anatomy.d_mlp, anatomy.d_model) + anatomy.n_heads * length
    each = length * width * (anatomy.n_layers - layer) + 4 * marks * anatomy.d_vocab
    return max(1, budget // max(1, each * seen.model.dtype.itemsize))
