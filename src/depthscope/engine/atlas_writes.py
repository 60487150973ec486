"""What the atlas of heads measures itself: how much each head writes, and what is lost where it is set to zero."""

from __future__ import annotations

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, SweepNeed
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.text_loss import text_loss
from depthscope.engine.view import View
from depthscope.results.measurement import Measurement
from depthscope.runtime.head_ablation import Ablation, ablated
from depthscope.runtime.head_writes import head_write, layers_with_heads
from depthscope.runtime.model import Batch, Model

NO_ABLATION = "Not measured, as no head was set to zero (ablate=0) or no next token is predicted: ablation."
NOISE = 1e-5
"""Nats of a mean loss that float32 cannot tell from none."""
LONGEST = 64
"""Tokens of a sentence that are read when heads are set to zero."""


def writes(model: Model, seen: View) -> dict[str, PerDocument]:
    """At every token from position 1 on, of each head: length of its write, and that over its layer's heads' sum."""
    anatomy = model.anatomy
    rows, length = seen.seen.batch.rows, seen.seen.batch.length
    shares = np.full((rows * (length - 1), anatomy.n_layers, anatomy.n_heads), np.nan)
    lengths = shares.copy()
    for layer in layers_with_heads(anatomy):
        found = head_write(model, layer, seen[f"L{layer}.head_out"][:, 1:]).detach().float()
        every = torch.linalg.vector_norm(found.sum(2), dim=-1).clamp_min(1e-30)
        own = torch.linalg.vector_norm(found, dim=-1)
        shares[:, layer] = (own / every[..., None]).flatten(0, 1).double().cpu().numpy()
        lengths[:, layer] = own.flatten(0, 1).double().cpu().numpy()
    units = [unit for unit in seen.units for _ in range(length - 1)]
    return {"write_share": PerDocument.of(units, shares), "mean_write": PerDocument.of(units, lengths)}


def own_scores(total: Tally, facts: Facts) -> list[Measurement]:
    """Lengths of writes and rises of the loss by layer and head, with intervals over sentences."""
    axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
    shape, none = (1, facts.n_layers, facts.n_heads), "the layer has no heads with an output projection"
    nothing = PerDocument(("none",), np.zeros(shape), np.zeros(shape, np.int64))
    rises = part(total, "ablation", PerDocument) if "ablation" in total else nothing
    return [
        mean(
            part(total, "write_share", PerDocument), "write_share", axes, "probability", facts,
            "length of the head's write over that of its layer's attention; parsed sentences", none,
        ),
        mean(
            part(total, "mean_write", PerDocument), "mean_write", axes, "1", facts,
            "length of the head's write; parsed sentences", none,
        ),
        mean(
            rises, "ablation", axes, "nats", facts,
            "rise of the loss with this head alone set to zero at all positions; parsed sentences",
            "no head was set to zero, no next token is predicted, or the layer has no heads",
        ),
    ]  # fmt: skip


def ablation_need(anatomy: Anatomy, sentences: int) -> frozenset[SweepNeed]:
    """Recorded sentences for ablations; none where nothing is asked for or no next token is predicted."""
    if not sentences or not anatomy.family.causal or not anatomy.has_unembedding():
        return frozenset()
    passes = -(-anatomy.n_heads * anatomy.n_layers // 2)  # a pass goes on from the head's own layer
    return frozenset({SweepNeed((), (), LONGEST * sentences, sentences, protect="none", replays=passes)})


def ablation_rises(model: Model, batch: Batch, seen: View) -> PerDocument:
    """Rise of the mean loss of each sentence with one head set to zero at all positions, nats, [layer head]."""
    anatomy = model.anatomy
    heads = [(layer, head) for layer in layers_with_heads(anatomy) for head in range(anatomy.n_heads)]
    last, ids = str(anatomy.states()[-1]), batch.ids
    rises = np.full((batch.rows, anatomy.n_layers, anatomy.n_heads), np.nan)
    intact = text_loss(model, seen[last], ids)
    for place, changed in ablated(model, batch, [Ablation((one,), "zero") for one in heads], clean=seen.seen):
        rises[:, *heads[place]] = text_loss(model, changed[last], ids) - intact
    rises[np.abs(rises) < NOISE] = 0.0
    return PerDocument.of(seen.units, rises)
