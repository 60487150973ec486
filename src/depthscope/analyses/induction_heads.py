"""Induction heads: which heads look at what came next the last time.

Question: Which heads find the token that followed an earlier occurrence of the current one, which of them also write
that token, and how well does the model predict what it has seen before?

Method: Blocks of random tokens are repeated, 50 tokens twice and 25 tokens four times, behind a BOS token. Attention
rows of the later copies are recomputed. prefix_matching is the mass on all earlier positions that follow an
occurrence of the query's token, over the four copies. induction is the mass on the one such position of two copies,
without the last row, which predicts nothing; induction_argmax the share of rows in which that position has the
largest mass of all keys but the sink; duplicate the mass on the token's own earlier occurrence. For copying each
head's value vectors at the first copy of the 25 tokens go through its output matrix, the final norm and the
unembedding: copying compares how far the own token is raised with the token that is raised most besides, own_share
with the sum over all 25. ov_eigenvalue is taken from the weights alone. first_copy_loss and second_copy_loss are the
mean loss of the tokens of either copy but its first one.

How to read: A head that is high in induction and above zero in copying finds the token and says it. In deep models
one head may match and another, later one, write: neither score alone is a condition. second_copy_loss far below
first_copy_loss says that the model does copy from its context. Heads that share keys tend to share induction.

What misleads: Random tokens are no text; what a head does on them is one of the things it does. A head with 90 % on
the sink and the rest on the right place is low in induction and 1 in induction_argmax. In a layer whose window is
shorter than the block the scores are missing, not zero. Copying is the direct path only: later layers may undo it,
and for heads of early layers the value is a token that was not yet read. ov_eigenvalue leaves out everything that
stands between the embedding and the head.

Source: Olsson et al. 2022 (arXiv 2209.11895), scores of the appendix; Elhage et al. 2021, A Mathematical Framework
for Transformer Circuits (eigenvalues).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.measured import mean, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.next_tokens import losses
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.materials.repeats import Repeats
from depthscope.measures.induction import copying, eigenvalue_score, repeat_scores
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head_circuits import copy_circuits, direct_logits
from depthscope.runtime.model import Batch, Model

HEADS = {
    "prefix_matching": ("probability", "mass on what followed earlier occurrences; four copies"),
    "induction": ("probability", "mass on what followed the token in the first copy; two copies"),
    "induction_argmax": ("probability", "share of rows whose largest key but the sink is that one"),
    "duplicate": ("probability", "mass on the token's own place in the first copy"),
    "echo": ("probability", "mass on the token's own place in the copy before; four copies"),
    "copying": ("1", "own token raised against the next other one, -1 to 1"),
    "own_share": ("probability", "share of the own token in what is raised; by chance 1 / candidates"),
    "ov_eigenvalue": ("1", "of the weights: real part over size of the eigenvalues, summed, -1 to 1"),
}
KEPT = {
    2: {name: name for name in ("induction", "induction_argmax", "duplicate")},
    4: {"prefix_matching": "prefix_matching", "echo": "duplicate"},
}
"""Copies -> name of the measurement -> name of the score."""
LOSSES = ("first_copy_loss", "second_copy_loss")
ABSENT = "the layer has no attention heads, its window is shorter than the block, or its weights are not told apart"


@dataclass(frozen=True)
class InductionHeads:
    """Scores of all heads on repeated random tokens.

    Args:
        length, short: tokens of the block that comes twice, and of the one that comes four times.
        examples: blocks of each. bos: see `materials.repeats`.
    """

    length: int = 50
    short: int = 25
    examples: int = 10
    bos: str = "always"

    def needs(self, anatomy: Anatomy) -> Needs:
        """Rows of later copies, and values; refused where nothing attends or nothing follows."""
        must_attend(anatomy)
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: what comes again stands on both sides of a token")
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so what heads write has no tokens")
        if min(self.length, self.short) < 2:
            raise BadInput(
                f"length={self.length}, short={self.short}; both blocks are needed, of 2 tokens or more"
            )
        material = Repeats(self.length, self.short, self.examples, self.bos)
        last = frozenset({str(anatomy.states()[-1])})
        return Needs(last, own_queries=True, values=True, material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Scores of each example, one row an example; its losses by position."""
        del given
        tally: dict[str, PerDocument] = {}
        layouts = _layouts(seen)
        for copied, scores in _scores(model, seen, layouts).items():
            units = [seen.units[row] for row in layouts[copied]]
            tally |= {name: PerDocument.of(units, scores[own]) for name, own in KEPT[copied].items()}
        if 2 in layouts:
            tally |= _behaviour(model, batch, seen, layouts[2])
        if 4 in layouts:
            tally |= _written(model, batch, seen, layouts[4])
        if 0 in seen.shard.windows:
            tally["ov_eigenvalue"] = PerDocument.of(["weights"], _eigenvalues(model)[None])
        return Tally(tally)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """One layer x head table a score, and how well the copies are predicted."""
        axes = {"layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
        found: list[Measurement] = []
        for name, (unit, note) in HEADS.items():
            one = part(total, name, PerDocument)
            missing = ABSENT if (one.counts.sum(0) == 0).any() else ""
            found.append(mean(one, name, axes, unit, facts, note, missing))
        by_position = part(total, "loss", PerDocument)
        place = {"position": np.arange(2 * self.length)[-by_position.sums.shape[1] :]}
        for name, where in zip(LOSSES, copies(self.length), strict=True):
            found.append(
                mean(_over(by_position, where), name, {}, "nats", facts, "tokens but the first of the copy")
            )
        right = _over(part(total, "right", PerDocument), copies(self.length)[1])
        found.append(
            mean(
                right, "second_copy_accuracy", {}, "probability", facts, "most likely token is the right one"
            )
        )
        note = "loss of the token at this place of the two blocks"
        found.append(mean(by_position, "loss", place, "nats", facts, note))
        return Findings({m.name: m for m in found})


def copies(length: int) -> tuple[slice, slice]:
    """Where the tokens of the first and of the second copy, but the first of each, stand, counted from the end."""
    return slice(1 - 2 * length, -length), slice(1 - length, None)


def _layouts(seen: View) -> dict[int, list[int]]:
    """Copies -> rows of the shard: both layouts may be of one length."""
    found: dict[int, list[int]] = {}
    for row, window in enumerate(seen.windows):
        found.setdefault(window.about["copies"], []).append(row)
    return found


def _scores(model: Model, seen: View, layouts: Mapping[int, list[int]]) -> dict[int, dict[str, np.ndarray]]:
    """Copies -> score -> [row, layer, head], the mean over rows of later copies; of two, without the last row."""
    anatomy = model.anatomy
    found: dict[int, dict[str, np.ndarray]] = {copied: {} for copied in layouts}
    for layer in anatomy.attention_layers:
        pattern = seen.pattern(layer)
        for copied, rows in layouts.items():
            about = seen.windows[rows[0]].about
            queries = torch.as_tensor(about["queries"])[: -1 if copied == 2 else None]
            own = pattern[rows][:, :, : len(queries)]
            window = anatomy.window_of_layer[layer]
            scores = repeat_scores(own, queries, about["start"], about["length"], window)
            for name, values in scores.items():
                empty = np.full((len(rows), anatomy.n_layers, anatomy.n_heads), np.nan)
                found[copied].setdefault(name, empty)[:, layer] = _mean(values)
    return found


def _written(model: Model, batch: Batch, seen: View, rows: list[int]) -> dict[str, PerDocument]:
    """What each head's values at the first copy say for the tokens of the block."""
    anatomy, about = model.anatomy, seen.windows[rows[0]].about
    shape = (len(rows), anatomy.n_layers, anatomy.n_heads)
    found = {name: np.full(shape, np.nan) for name in ("copying", "own_share")}
    first = torch.arange(about["start"], about["start"] + about["length"], device=batch.ids.device)
    for layer, heads in seen.seen.heads.items():
        value = heads.value
        if value is None or value.shape[-1] != anatomy.d_head:
            continue  # latent values are not what heads write from
        shared = value.repeat_interleave(anatomy.n_heads // value.shape[1], 1)
        for place, row in enumerate(rows):
            z = shared[row : row + 1, :, first].transpose(1, 2)
            direct = direct_logits(model, layer, z, batch.ids[row, first])[0]
            for name, scores in zip(found, copying(direct.transpose(0, 1)), strict=True):
                found[name][place, layer] = _mean(scores)
    units = [seen.units[row] for row in rows]
    return {name: PerDocument.of(units, values) for name, values in found.items()}


def _eigenvalues(model: Model) -> np.ndarray:
    """[layer, head], NaN where weights are not readable."""
    found = np.full((model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    for layer, circuits in copy_circuits(model):
        found[layer] = eigenvalue_score(circuits).double().cpu().numpy()
    return found


def _mean(values: Tensor) -> np.ndarray:
    """Mean over the last axis of what is not missing."""
    return torch.nanmean(values.double(), -1).cpu().numpy()


def _behaviour(model: Model, batch: Batch, seen: View, rows: list[int]) -> dict[str, PerDocument]:
    """Loss of each token of both copies behind the one before it, and whether it is the most likely."""
    start = seen.windows[rows[0]].about["start"]
    loss, right = losses(model, seen[model.anatomy.states()[-1]][rows], batch.ids[rows])
    units = [seen.units[row] for row in rows]
    places = slice(max(0, start - 1), None)
    return {"loss": PerDocument.of(units, loss[:, places]), "right": PerDocument.of(units, right[:, places])}


def _over(found: PerDocument, where: slice) -> PerDocument:
    return PerDocument(found.units, found.sums[:, where].sum(1), found.counts[:, where].sum(1))
