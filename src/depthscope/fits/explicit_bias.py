"""Explicit bias: whether a key and a value of a head's own take over what the first token is used for.

Question: Do heads rest on the first token because they must rest somewhere, and do they leave it when each of them is
given one learned key and one learned value to rest on?

Method: Two small causal transformers of equal weights are trained on the same sequences; in one every head has a key
and a value of its own beside those of the text. In the sequences each token follows from the one before by fixed odds,
but behind a few triggers stands what stood before them: one head must look back there and has nothing to do elsewhere.
On held-out sequences, for every head: first_share, the mean attention that position 0 gets from all later queries,
first_idle, the same where nothing is to be copied, and pair_share, what the learned pair gets; for every layer
top_ratio, the largest entry of the stream behind it over the median size, and first_norm, the norm at position 0 over
the median. loss is that of copies and of the other tokens. Units are sequences.

How to read: A head with a large first_idle rests on the first token when it has nothing to do. Where the pair takes
that over, first_share is gone, pair_share has its place, and the loss is no worse: the first token held nothing.

What misleads: One training each is one draw, which intervals over sequences do not hold. Two layers grow no massive
activations on so small a task: top_ratio and first_norm say so rather than show them vanish. Places are learned here;
in models that turn keys by position the first token is marked otherwise.

Source: Sun et al. 2024 (arXiv 2402.17762), section 5, explicit attention biases; Guo et al. 2024 (arXiv 2410.13835),
sequences with copies behind triggers; sizes, the share of idle queries and the losses by kind are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Kind
from depthscope.engine.cells import Items
from depthscope.engine.journal import Journal
from depthscope.engine.needs import Facts
from depthscope.engine.picture_tokens import as_json, from_json
from depthscope.engine.progress import Progress
from depthscope.errors import NonFinite
from depthscope.fits.bias_net import BiasNet, Chains
from depthscope.fits.shown_layer import must_be_trainable
from depthscope.ranges import at_least
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings

VARIANTS = ("plain", "explicit pair")
KINDS = ("copies", "other")
JUDGED = 256
NO_PAIR = "these heads have no pair of their own"


@dataclass(frozen=True)
class ExplicitBias:
    """What is trained.

    Args:
        width, layers, heads: sizes. steps, rows, lr: of each training. length: tokens of a sequence.
    """

    width: int = 32
    layers: int = 2
    heads: int = 2
    steps: int = 800
    rows: int = 32
    lr: float = 3e-3
    length: int = 48

    def __post_init__(self) -> None:
        must_be_trainable(self, self.width, self.heads, length=at_least(8, what="tokens of a sequence"))

    def chains(self) -> Chains:
        """What the sequences are like."""
        return Chains(length=self.length)

    def made(self) -> Mapping[str, Any]:
        """The models, for the manifest."""
        return {
            "name": "small transformers with and without explicit pairs", "n_layers": self.layers,
            "n_heads": self.heads, "d_model": self.width,
            "source": f"synthetic sequences of {self.length} tokens with copies behind triggers",
        }  # fmt: skip

    def run(self, journal: Journal, seed: int, progress: Progress) -> Findings:
        """Train both and judge them on the same held-out sequences; each training is a step of the journal."""
        found: list[dict[str, np.ndarray]] = []
        for place, name in enumerate(VARIANTS):
            about = {
                "variant": name, "seed": seed, "sizes": [self.width, self.layers, self.heads, self.length],
                "course": [self.steps, self.rows, self.lr],
            }  # fmt: skip
            stored = journal.step(
                "training", about, lambda place=place: as_json(self._one(place, seed, progress))
            )
            found.append(from_json(stored))
        return _findings(found, self._facts(seed))

    def _facts(self, seed: int) -> Facts:
        kind: Kind = "attention"
        return Facts(
            self.layers, self.heads, self.width, (kind,) * self.layers, (None,) * self.layers, causal=True,
            parallel=False, post_norm=False, has_unembedding=True, units="sequences", seed=seed,
            model=str(self.made()["name"]),
        )  # fmt: skip

    def _one(self, place: int, seed: int, progress: Progress) -> dict[str, np.ndarray]:
        chains = self.chains()
        torch.manual_seed(seed)
        net = BiasNet(chains, self.width, self.layers, self.heads, pair=bool(place))
        descent = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=0.01)
        generator = torch.Generator().manual_seed(seed + 1)
        for step in range(self.steps):
            loss = net.losses(chains.draw(self.rows, generator)).mean()
            if not torch.isfinite(loss):
                raise NonFinite(f"the loss at step {step} is {loss.item()}; give a smaller --lr")
            loss.backward()
            descent.step()
            descent.zero_grad(set_to_none=True)
            progress("train", place * self.steps + step + 1, len(VARIANTS) * self.steps)
        return judged(net.eval(), chains, chains.draw(JUDGED, torch.Generator().manual_seed(seed + 2)))


@torch.no_grad()
def judged(net: BiasNet, chains: Chains, ids: Tensor) -> dict[str, np.ndarray]:
    """Scores of each sequence: [row, kind], [row, layer, head] or [row, layer]; NaN where there is nothing."""
    copies = chains.copies(ids)
    _, states, maps = net(ids)
    losses, asked = net.losses(ids).double(), copies[:, :-1]
    each = torch.stack(maps, 1)[:, :, :, 1:]  # [row, layer, head, query, key], queries from position 1 on
    first, idle = each[..., 0].double(), (~copies[:, 1:])[:, None, None]
    sizes = [_sizes(state) for state in states]
    paired = each.shape[-1] > ids.shape[1]
    own = each[..., -1].double().mean(-1) if paired else torch.full(first.shape[:3], torch.nan)
    found = {
        "loss": torch.stack([_mean(losses, asked), _mean(losses, ~asked)], 1),
        "first_share": first.mean(-1),
        "first_idle": _mean(first, idle.expand_as(first)),
        "pair_share": own,
        "top_ratio": torch.stack([ratio for ratio, _ in sizes], 1),
        "first_norm": torch.stack([norm for _, norm in sizes], 1),
    }
    return {name: x.double().numpy() for name, x in found.items()}


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the last axis where chosen; NaN where nothing is."""
    return torch.where(chosen, values, 0.0).sum(-1) / torch.where(chosen.any(-1), chosen.sum(-1), torch.nan)


def _sizes(state: Tensor) -> tuple[Tensor, Tensor]:
    """(largest entry over the median size, norm at position 0 over the median norm), [row]."""
    flat, norms = state.abs().flatten(1), torch.linalg.vector_norm(state, dim=-1)
    return flat.amax(1) / flat.median(1).values, norms[:, 0] / norms.median(1).values


def _findings(found: list[dict[str, np.ndarray]], facts: Facts) -> Findings:
    items = Items(np.array([f"sequence-{k:05d}" for k in range(JUDGED)]), facts, noun="sequences")
    variants = {"variant": np.array(VARIANTS)}
    by_head = {**variants, "layer": np.arange(facts.n_layers), "head": np.arange(facts.n_heads)}
    by_layer = {**variants, "layer": np.arange(facts.n_layers)}
    said: dict[str, tuple[dict[str, np.ndarray], str, str]] = {
        "loss": ({**variants, "bucket": np.array(KINDS)}, "nats", "behind triggers, and elsewhere"),
        "first_share": (by_head, "probability", "attention that position 0 gets from all later queries"),
        "first_idle": (by_head, "probability", "the same from queries that have nothing to copy"),
        "pair_share": (by_head, "probability", "attention that the head's own key gets"),
        "top_ratio": (by_layer, "1", "largest entry behind the layer over the median size"),
        "first_norm": (by_layer, "1", "norm at position 0 over the median"),
    }
    made: list[Measurement] = []
    for name, (axes, unit, note) in said.items():
        one = items.mean(np.stack([f[name] for f in found], 1), name, axes, unit, note)
        made.append(replace(one, missing=NO_PAIR) if np.isnan(one.value).any() else one)
    return Findings({m.name: m for m in made})
