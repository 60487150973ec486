"""Decompose: every state of a text taken apart into what came before and what is new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import Parts, Predictors, load_predictors, split
from depthscope.runtime.run import run
from depthscope.runtime.temporal_features import TemporalFolder, load_temporal_features

METHODS = ("predictor", "temporal-features")


def decompose(
    model: Model,
    text: Batch | str | Sequence[str] | Tensor,
    layer: int,
    source: str | Path | Predictors | TemporalFolder,
    *,
    method: str = "predictor",
) -> Parts:
    """The output of one layer at positions 1..T-1 as expected + novel, float32 [row position d_model].

    Args:
        text: what `run` reads; rows of one length. layer: whose output is taken apart.
        source: what was trained for it: a folder, or what was loaded from one.
        method: "predictor" expects a state from those before it and never sees it. "temporal-features" looks at the
            state itself to scale what earlier ones give: it is leaky, and only there to be compared with.

    Raises:
        UnknownName: for another method. BadInput: for padded rows, a source of the other method, or a layer that was
            not trained.

    Example:
        >>> from depthscope.runtime.predictor import Design, Predictor, Predictors
        >>> untrained = Predictors({2: Predictor(Design(heads=1, head_dim=8), 32)})
        >>> ds.decompose(model, "a text", 1, untrained).novel.shape
        torch.Size([1, 5, 32])
    """
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if not 0 <= layer < model.anatomy.n_layers:
        raise BadInput(f"layer={layer}; {model.name} has layers 0 to {model.anatomy.n_layers - 1}")
    other = TemporalFolder if method == "predictor" else Predictors
    if isinstance(source, other):
        raise BadInput(
            f"method={method!r} cannot use {other.__name__}; give what was trained for it, or its folder"
        )
    site = model.anatomy.states()[layer + 1]
    seen = run(model, text, read=[site])
    if not bool(seen.batch.mask.all()):
        raise BadInput(
            "rows of several lengths are padded, and a padded token is no token; give one text at a time"
        )
    if isinstance(source, Predictors):
        return split(source.at(layer + 1), seen[site])
    if isinstance(source, TemporalFolder):
        return source.at(layer + 1).split(seen[site])
    if method == "predictor":
        return split(load_predictors(source, model).at(layer + 1), seen[site])
    return load_temporal_features(source, model).at(layer + 1).split(seen[site])
