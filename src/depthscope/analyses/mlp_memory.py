"""MLP memory: what makes each hidden number of an MLP large, and which token does it then push?

Question: Do the hidden numbers of an MLP act as memories, each waiting for some inputs and pushing what follows them?

Method: In chosen layers a sample of hidden numbers (neurons) is followed over the text. For each, the contexts of its
largest positive and of its largest negative values are kept: two memories, (neuron, sign). The value of a memory is
the column of the last projection that its number multiplies, with that sign; it is decoded through the final norm's
gain and the unembedding. agreement is the share of memories whose most likely decoded token is the very token that
follows the context of the largest value, agreement_chance the same when contexts and values are paired at random.
value_probability is the mean of the largest decoded probability, trigger_entropy the entropy in nats of the last
token of the kept contexts, active_share the share of all neurons of a layer above a tenth of the largest at their
position, in size. Units are neurons; for active_share documents.

How to read: An agreement far above chance says that values foretell what follows their contexts. Entropies near 0 are
neurons that wait for one token; near the logarithm of the number of contexts each context ends otherwise. Values
without a likely token are no words: they are read by later layers.

What misleads: With tied embeddings early values look like words because they are near embeddings. One neuron in a
gated MLP is the product of two; its sign has no meaning of its own. Most writes are sums of hundreds of small
memories, of which none need agree with what the sum says. Values are decoded as if they stood alone at the end of the
network.

Source: Geva et al. 2021, Transformer Feed-Forward Layers Are Key-Value Memories (arXiv 2012.14913); both signs, the
chance level and the entropy of triggers are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import part
from depthscope.engine.memory_findings import found
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Part, PerDocument, Rows, Tally, Top
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.memories import memory_layers, pushed_logits, values
from depthscope.runtime.model import Batch, Model

BEFORE = 8
"""Tokens of a context that are shown."""
ACTIVE = 0.1
"""A neuron is active above this share of the largest at its position."""
SAID = 5
"""Decoded tokens that are named."""


@dataclass(frozen=True)
class MlpMemory:
    """Top inputs and decoded values of a sample of neurons.

    Args:
        layers: which; up to twelve evenly spaced ones where empty. neurons: how many of each, drawn by the seed.
        contexts: how many are kept of each sign.
    """

    layers: tuple[int, ...] = ()
    neurons: int = 256
    contexts: int = 10

    def __post_init__(self) -> None:
        check_ranges(self, neurons=at_least(2), contexts=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The hidden numbers of the chosen layers."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so values cannot be decoded to tokens")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: there is no next token that a value could say")
        if not memory_layers(anatomy):
            raise Refused("its MLPs have no one last projection whose columns could be memories")
        return Needs(frozenset(f"L{k}.mlp_hidden" for k in self._chosen(anatomy)))

    def _chosen(self, anatomy: Anatomy) -> list[int]:
        there = memory_layers(anatomy)
        wrong = sorted(set(self.layers) - set(there))
        if wrong:
            raise BadInput(
                f"layers {wrong} of {anatomy.name} have no MLP with a last projection; it has {there}"
            )
        places = np.linspace(0, len(there) - 1, min(12, len(there))).round().astype(int)
        return sorted(self.layers) if self.layers else [there[k] for k in np.unique(places)]

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """The largest values of each sign with their contexts; once, what the values say."""
        del given
        layers = self._chosen(model.anatomy)
        picked = [self._drawn(model, layer, seen.seed) for layer in layers]
        tops = [self._tops(model, batch, seen, k, rows) for k, rows in zip(layers, picked, strict=True)]
        parts: dict[str, Part] = {
            "contexts": Top(
                *(np.stack([getattr(top, name) for top in tops]) for name in ("value", "place", "text"))
            ),
            "active": PerDocument.of(*_active(batch, seen, layers)),
        }
        if 0 in seen.shard.windows:
            parts["values"] = _decoded(model, layers, picked)
        return Tally(parts)

    def _drawn(self, model: Model, layer: int, seed: int) -> Tensor:
        """The neurons of a layer that are followed, in ascending order."""
        wide = len(values(model, layer))
        order = np.random.default_rng([seed, layer]).permutation(wide)[: self.neurons]
        return torch.from_numpy(np.sort(order))

    def _tops(self, model: Model, batch: Batch, seen: View, layer: int, picked: Tensor) -> Top:
        """Contexts of one layer, [neuron, sign, context]; a token without a next one in its window is left out."""
        hidden = seen[f"L{layer}.mlp_hidden"][..., picked.to(seen.seen.model.device)]
        used = batch.mask.clone()
        used[:, 0] = False  # position 0 is a sink
        used[:, :-1] &= batch.mask[:, 1:]
        used[:, -1] = False
        flat = hidden[used].double().cpu().numpy()
        where = used.nonzero().cpu().numpy()
        signed = np.stack([flat, -flat], axis=-1)
        count = min(self.contexts, len(flat))
        order = np.argsort(-signed, axis=0, kind="stable")[:count].transpose(1, 2, 0)
        shape = (*signed.shape[1:], self.contexts)
        value, place = np.full(shape, -np.inf), np.full((*shape, 4), -1)
        text = np.full(shape, "", dtype="U80")
        value[..., :count] = np.take_along_axis(signed.transpose(1, 2, 0), order, -1)
        rows, positions = where[order, 0], where[order, 1]
        ids = batch.ids.cpu().numpy()
        windows = np.array([w.index for w in seen.windows])
        place[..., :count, :] = np.stack(
            [windows[rows], positions, ids[rows, positions], ids[rows, positions + 1]], -1
        )
        read = {
            spot: _context(model, ids[spot[0]], spot[1])
            for spot in set(zip(rows.ravel().tolist(), positions.ravel().tolist(), strict=True))
        }
        text[..., :count] = [
            [[read[int(r), int(p)] for r, p in zip(*one, strict=True)] for one in zip(*two, strict=True)]
            for two in zip(rows, positions, strict=True)
        ]
        return Top(value, place, text)

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Agreement with what follows, by layer and sign, and the memories with the likeliest words."""
        contexts, said = part(total, "contexts", Top), part(total, "values", Rows).columns
        return found(contexts, said, part(total, "active", PerDocument), facts)


def _context(model: Model, ids: np.ndarray, position: int) -> str:
    """The last tokens up to a position, in words."""
    words = str(model.tokenizer.decode(ids[max(0, position + 1 - BEFORE) : position + 1].tolist()))
    return words.replace("\n", " ")[-80:]


def _active(batch: Batch, seen: View, layers: list[int]) -> tuple[list[str], np.ndarray]:
    """Share of active neurons at each position from 1 on, [position, layer], with its unit."""
    used = batch.mask.clone()
    used[:, 0] = False
    units = [seen.units[row] for row in used.nonzero()[:, 0].tolist()]
    shares = [_share(seen[f"L{layer}.mlp_hidden"][used]) for layer in layers]
    return units, np.stack(shares, axis=-1)


def _share(hidden: Tensor) -> np.ndarray:
    size = hidden.abs()
    return (size > ACTIVE * size.amax(-1, keepdim=True)).double().mean(-1).cpu().numpy()


def _decoded(model: Model, layers: list[int], picked: list[Tensor]) -> Rows:
    """What each value says, both signs: likeliest ids, the largest probability, the words."""
    columns: dict[str, list[np.ndarray]] = {
        "layer": [],
        "neuron": [],
        "first": [],
        "probability": [],
        "words": [],
    }
    for layer, rows in zip(layers, picked, strict=True):
        for value in values(model, layer, rows.to(model.device)).split(64):
            logits = pushed_logits(model, value)
            both = torch.stack([logits, -logits], 1)
            top = both.topk(min(SAID, both.shape[-1]))
            columns["first"].append(top.indices[..., 0].cpu().numpy())
            columns["probability"].append(
                (top.values[..., 0] - both.logsumexp(-1)).exp().double().cpu().numpy()
            )
            columns["words"].append(_words(model, top.indices))
        columns["layer"].append(np.full(len(rows), layer))
        columns["neuron"].append(rows.numpy())
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    key = joined["layer"].astype(np.uint64) * np.uint64(2**32) + joined["neuron"].astype(np.uint64)
    return Rows(key, joined, 10**7)


def _words(model: Model, ids: Tensor) -> np.ndarray:
    """[memory, sign] likeliest tokens, with bars between."""
    said = [
        [" | ".join(str(model.tokenizer.decode([i])) for i in sign) for sign in one] for one in ids.tolist()
    ]
    return np.array(said, dtype="U120")
