"""Training of temporal features: few steps, enough to see what a split that knows the current token gives away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

import depthscope
from depthscope.engine.provenance import hashed
from depthscope.engine.reading import Reading
from depthscope.errors import BadInput
from depthscope.fits.teacher import batched, drawn, taught
from depthscope.materials.window import Window
from depthscope.runtime.lens_folder import model_card
from depthscope.runtime.model import Model
from depthscope.runtime.temporal_features import (
    Sizes,
    TemporalFeatures,
    TemporalFolder,
    save_temporal_features,
)

BETAS = (0.9, 0.95)
DECAY = 1e-4
CLIP = 1.0


def fit_temporal_features(
    model: Model,
    layers: Sequence[int],
    out: str | Path,
    reading: Reading,
    *,
    steps: int = 500,
    rows: int = 8,
    rate: float = 1e-3,
    kept: int = 0,
    seed: int = 0,
) -> TemporalFolder:
    """Train temporal features of some layers from one pass a step, and leave them in a folder.

    The loss is the squared error of what both parts rebuild, |x - predictable - novel|^2 on states of average norm 1;
    AdamW, gradients clipped to norm 1. Only windows of full length are read.

    Args:
        layers: whose outputs are split. reading: the text; its `reserve` keeps documents apart. rows: windows a step.
        rate: of the first step; it falls to a tenth in a straight line. kept: see `Sizes`.

    Raises:
        BadInput: for a layer that does not exist, or a text without a full window.
    """
    wrong = [k for k in layers if not 0 <= k < model.anatomy.n_layers]
    if wrong or not layers:
        raise BadInput(f"layers={list(layers)}; {model.name} has layers 0 to {model.anatomy.n_layers - 1}")
    model = hashed(model)
    windows = reading.windows(model)
    full = [w for w in windows.items if len(w.ids) == reading.window]
    if len(full) < rows:
        raise BadInput(
            f"{windows.source} gives {len(full)} windows of {reading.window} tokens, a step needs {rows}"
        )
    torch.manual_seed(seed)
    states = [k + 1 for k in layers]
    nets = {s: TemporalFeatures(Sizes(model.anatomy.d_model, kept=kept)).to(model.device) for s in states}
    first = taught(model, full[:rows], states)
    for state, net in nets.items():
        _standardise(net, first.of[state])
    loss = _train(model, nets, full, steps, rows, rate, seed)
    card = {
        "model": model_card(model), "depthscope": depthscope.__version__, "steps": steps, "rows": rows, "rate": rate,
        "text": windows.source, "tokens": steps * rows * reading.window, "loss": loss,
    }  # fmt: skip
    found = TemporalFolder({s: net.eval().requires_grad_(False) for s, net in nets.items()}, card)
    save_temporal_features(out, found)
    return found


def _standardise(net: TemporalFeatures, stream: torch.Tensor) -> None:
    """Mean and average norm of states behind position 0, which is a sink in many models."""
    rest = stream[:, 1:].flatten(0, 1)
    net.mean.copy_(rest.mean(0))
    net.size.copy_((rest - net.mean).norm(dim=-1).median())


def _train(
    model: Model, nets: dict[int, TemporalFeatures], windows: Sequence[Window], steps: int, rows: int, rate: float,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Train every net in place; the mean loss of the last tenth of the steps, by state."""
    optimisers = {
        s: torch.optim.AdamW(net.parameters(), lr=rate, betas=BETAS, weight_decay=DECAY)
        for s, net in nets.items()
    }
    last: dict[str, list[float]] = {str(s): [] for s in nets}
    for step, some in enumerate(islice(batched(list(drawn(windows, seed, 0, steps * rows)), rows), steps)):
        streams = taught(model, some, list(nets))
        for state, net in nets.items():
            optimiser = optimisers[state]
            optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * step / steps)
            x = net.scaled(streams.of[state])[:, 1:]
            x = x * (4 / x.norm(dim=-1, keepdim=True).clamp_min(4))  # a massive state would rule the step
            found = net(x)
            loss = (x - found.predictable - found.novel).square().sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimiser.step()
            if step >= 0.9 * steps:
                last[str(state)].append(float(loss.detach()))
    return {state: sum(values) / max(1, len(values)) for state, values in last.items()}
