"""Insertion: can one pair of key and value be put into an MLP, and what else does it change?

Question: If one layer's MLP is given one more memory, by a change of rank one, does the model say the new answer,
also in other words, and do answers about others stay?

Method: For each fact and each layer the key is the mean of what the MLP's last projection reads at the subject's last
token, over the prompt alone and behind short pieces of the text; the change of its output there is found by Adam so
that the target follows; both are put into the projection by the rank-one formula, with the second moment of keys over
the text and a ridge. Before and after: probability of the target and of the old answer, in the prompt and in
paraphrases; prompts about others: share whose likeliest token stays, and KL(before || after) at their ends; the loss
on the text. Weights are put back each time. Units are facts.

How to read: target_probability near 1 in the prompt says that the pair was put in, in paraphrases that it is a fact
rather than a phrase. neighbours_kept near 1 with a small neighbour_kl is a local change; layers differ most in this.

What misleads: Any layer can be made to say anything with a long enough change: look at the length (update_share) too.
The loss on a text does not feel a leak into a few prompts. A fact that the model did not know before is not changed
but taught. Facts are few: intervals over three say little.

Source: Meng et al. 2022, Locating and Editing Factual Associations in GPT (arXiv 2202.05262); no text is generated
for prefixes here, pieces of the text stand in, and the KL term on the subject's essence is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.cells import Items
from depthscope.engine.needs import Facts
from depthscope.engine.study import Work
from depthscope.errors import BadInput, Refused
from depthscope.materials.edges import edges
from depthscope.materials.insertions import Asked, Insertion, insertions
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.result import Findings
from depthscope.runtime.memories import memory_layers, projection
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.rank_one import Descent, Spot, change_for, holding, inserted, key_at, second_moment
from depthscope.runtime.run import run

PIECE = 8
"""Tokens of a piece of text before a prompt."""
WHEN = ("before", "after")
PLACES = ("prompt", "paraphrases")
ONE = ("update_share", "steps", "neighbours_kept", "neighbour_kl", "neighbour_kl_largest", "loss_change")


@dataclass(frozen=True)
class RankOneInsertion:
    """Facts put into layers, one at a time.

    Args:
        source: see `materials.insertions`. layers: which; every fourth one from the second on where empty.
        prefixes: pieces of the text before the prompt, besides none. steps, rate, clamp: see `rank_one.Descent`.
        ridge: of the second moment, in mean diagonals. judged: windows that the loss is taken on.
    """

    source: str = ""
    layers: tuple[int, ...] = ()
    prefixes: int = 4
    steps: int = 25
    rate: float = 0.3
    clamp: float = 4.0
    ridge: float = 1e-2
    judged: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, prefixes=at_least(0), ridge=above(0), judged=at_least(1))
        Descent(self.steps, self.rate, clamp=self.clamp)

    def depends(self) -> Mapping[str, Any]:
        """The facts themselves are in the parameters' file name; nothing else."""
        return {}

    def run(self, work: Work) -> Findings:
        """Put each fact into each layer and take it out again; a step of the journal is one of these."""
        model = work.model.precise
        if not model.anatomy.family.causal or not model.anatomy.has_unembedding():
            raise Refused(f"{model.name} is no causal language model: no answer follows a prompt")
        layers = self._chosen(model)
        before, _, _ = edges(model.tokenizer, "auto", model.config.model_type)
        name, facts = insertions(self.source, model.tokenizer, before)
        items = work.windows.items
        pieces = [w.ids[len(before) : len(before) + PIECE] for w in items[: self.prefixes]]
        batches = [Batch.of_ids([w.ids]) for w in items]
        found: dict[str, list[Any]] = {}
        for number, layer in enumerate(layers):
            work.progress("insert", number, len(layers))
            asked = {"layer": layer, "facts": name, "count": len(facts)}
            fixed = {k: getattr(self, k) for k in ("prefixes", "steps", "rate", "clamp", "ridge", "judged")}
            compute = partial(self._layer, model, layer, facts, pieces, batches)
            found[str(layer)] = work.journal.step("insertion", {**asked, **fixed}, compute)
        work.progress("insert", len(layers), len(layers))
        return _findings(layers, [fact.name for fact in facts], found, work)

    def _chosen(self, model: Model) -> list[int]:
        there = memory_layers(model.anatomy)
        wrong = sorted(set(self.layers) - set(there))
        if wrong or not there:
            raise BadInput(
                f"layers {wrong} of {model.name} have no MLP with one last projection; it has {there}"
            )
        return sorted(self.layers) or there[1::4]

    def _layer(
        self,
        model: Model,
        layer: int,
        facts: Sequence[Insertion],
        pieces: Sequence[Sequence[int]],
        batches: Sequence[Batch],
    ) -> list[dict[str, Any]]:
        """All facts in one layer, as JSON."""
        moment = second_moment(model, layer, batches, self.ridge)
        return [self._one(model, layer, fact, pieces, batches[: self.judged], moment) for fact in facts]

    def _one(
        self,
        model: Model,
        layer: int,
        fact: Insertion,
        pieces: Sequence[Sequence[int]],
        text: Sequence[Batch],
        moment: Tensor,
    ) -> dict[str, Any]:
        spots = [_spot(fact.prompt), *(_spot(fact.prompt.behind(piece)) for piece in pieces)]
        how = Descent(self.steps, self.rate, clamp=self.clamp)
        change = change_for(model, layer, spots, how)
        held, turned = projection(model, layer)
        weight = (held.T if turned else held).detach()
        new = inserted(weight, key_at(model, layer, spots), change.delta, moment)
        before = _state(model, fact, text)
        with holding(model, layer, new):
            after = _state(model, fact, text)
        size = torch.linalg.matrix_norm(new - weight.double()) / torch.linalg.matrix_norm(weight.double())
        return {
            "update_share": float(size), "steps": change.steps, "answers": [before["answers"], after["answers"]],
            "loss_change": after["loss"] - before["loss"], **_locality(before["ends"], after["ends"]),
        }  # fmt: skip


def _spot(asked: Asked) -> Spot:
    return Spot(asked.ids, asked.at, asked.target)


def _state(model: Model, fact: Insertion, text: Sequence[Batch]) -> dict[str, Any]:
    """What the model says now: [place][target, answer] probabilities, ends of neighbours, loss on the text."""
    parts = [[fact.prompt], list(fact.paraphrases)]
    answers = [
        np.mean([_probabilities(model, one) for one in part], axis=0).tolist() if part else [np.nan] * 2
        for part in parts
    ]
    ends = [_end(model, ids) for ids in fact.neighbours]
    losses = [_loss(model, batch) for batch in text]
    return {"answers": answers, "ends": ends, "loss": float(np.mean(losses))}


def _probabilities(model: Model, asked: Asked) -> list[float]:
    """Of the first token of the target and of the old answer."""
    said = _end(model, asked.ids).exp()
    return [float(said[asked.target[0]]), float(said[asked.answer[0]])]


@torch.no_grad()
def _end(model: Model, ids: Sequence[int]) -> Tensor:
    """Log-probabilities behind a prompt."""
    site = f"L{model.anatomy.n_layers - 1}.resid_post"
    state = run(model, Batch.of_ids([list(ids)]), read=[site])[site][0, -1]
    return torch.log_softmax(model.head.logits(state).double(), -1)


@torch.no_grad()
def _loss(model: Model, batch: Batch) -> float:
    """Mean cross-entropy in nats of a window's tokens."""
    site = f"L{model.anatomy.n_layers - 1}.resid_post"
    states = run(model, batch, read=[site])[site][0, :-1]
    wanted = batch.ids[0, 1:].to(states.device)
    parts = [
        torch.nn.functional.cross_entropy(model.head.logits(some).double(), ids, reduction="sum")
        for some, ids in zip(states.split(32), wanted.split(32), strict=True)
    ]
    return float(torch.stack(parts).sum()) / len(wanted)


def _locality(before: Sequence[Tensor], after: Sequence[Tensor]) -> dict[str, float]:
    if not before:
        return dict.fromkeys(("neighbours_kept", "neighbour_kl", "neighbour_kl_largest"), float("nan"))
    kept = [float(a.argmax() == b.argmax()) for a, b in zip(before, after, strict=True)]
    kl = [float((a.exp() * (a - b)).sum()) for a, b in zip(before, after, strict=True)]
    return {
        "neighbours_kept": float(np.mean(kept)),
        "neighbour_kl": float(np.mean(kl)),
        "neighbour_kl_largest": max(kl),
    }


def _findings(
    layers: Sequence[int], names: Sequence[str], found: Mapping[str, list[Any]], work: Work
) -> Findings:
    facts = Facts.of(work.model.anatomy, work.kind, work.seed, work.model.name)
    items = Items(np.array(names), facts, 1, "facts")
    rows = [[found[str(layer)][k] for layer in layers] for k in range(len(names))]
    answers = np.array(
        [[cell["answers"] for cell in row] for row in rows], float
    )  # [fact, layer, when, place, option]
    by = {"layer": np.array(layers)}
    axes = {**by, "variant": np.array(WHEN), "option": np.array(PLACES)}
    units = {
        "neighbour_kl": "nats",
        "neighbour_kl_largest": "nats",
        "loss_change": "nats",
        "neighbours_kept": "probability",
    }
    ahead = np.where(np.isfinite(answers).all(-1), answers[..., 0] > answers[..., 1], np.nan)
    made = [
        items.mean(answers[..., 0], "target_probability", axes, "probability", "of the first token of the new answer"),
        items.mean(answers[..., 1], "answer_probability", axes, "probability", "of the first token of the old answer"),
        items.mean(ahead, "target_ahead", axes, "probability", "the new answer is likelier than the old one"),
        *(items.mean(_cells(rows, name), name, by, units.get(name, "1")) for name in ONE),
    ]  # fmt: skip
    return Findings({m.name: m for m in made})


def _cells(rows: Sequence[Sequence[Mapping[str, Any]]], name: str) -> np.ndarray:
    return np.array([[cell[name] for cell in row] for row in rows], float)
