"""Entropy modes: whether prompts fall into two kinds at some depth, and what tells the kinds apart.

Question: Do the prompt entropies of some state have two modes, and which property of a prompt decides its mode?

Method: Every prompt has one entropy a state: S1 of the spectrum of its centred unit token vectors over ln of the
largest number of directions, of all tokens (wei), without position 0, and without position 0 and massive ones. A state
is called bimodal where three signs agree: Hartigans' dip has p < 0.01 among uniform samples after Holm's correction
over the states; two normals beat one by more than 10 in BIC; and their Ashman distance is above 2 with a smaller weight
of at least 0.1. length_removed repeats it after a regression on the logarithm of the number of tokens. The threshold is
where both normals are equally likely. For bimodal states, features of the prompts are compared between the modes: AUC
with a bootstrap interval, rank-sum tests with false discoveries over all cells, sparse logistic regression and a small
tree on held-out documents, agreement between states; and three changes of each prompt (a newline before it, its first
token gone, cut to one length) show whether the mode flips. feature_correlation is taken at every state. No verdict
below 100 prompts.

How to read: bimodal is 1 or 0. Compare wei with wei_no_massive first: if the two modes are gone there, the mode was
whether, or where, a massive activation forms, which is a hypothesis that this analysis tests. A feature with an AUC
near 0 or 1 goes with the mode; a change that flips it has to do with the cause.

What misleads: The dip test is careful: of samples of 500 with modes four standard deviations apart it finds a third, at
five all. So 0 means not shown, not one mode. A text collection of two kinds has two modes for that reason alone.
Features that go with the mode need not cause it.

Source: Skean et al. 2024 (arXiv 2412.09563), who saw two modes and left the cause open; Hartigan and Hartigan 1985;
Ashman, Bird and Zepf 1994; the features and changes are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import part
from depthscope.engine.mode_attribution import attributed, exemplars
from depthscope.engine.mode_findings import FEWEST, Prompts
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.prompt_entropies import entropies
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.prompt_features import FEATURES
from depthscope.materials.prompt_variants import CHANGES, PromptVariants
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

MASSIVE = 4.0
"""A position is massive where its norm exceeds this many medians at some state from 1 on."""
INSIDE = ("loss", "massive_count", "massive_position", "massive_first")
LABELLED = 10
"""A label with fewer prompts is no feature."""


@dataclass(frozen=True)
class EntropyModes:
    """Modes of prompt entropies, state by state.

    Args:
        source, prompts, longest, whole, field, label: see `materials.prompt_variants.PromptVariants`.
        draws: uniform samples of the dip test at least; more are taken where a model has many states.
    """

    source: str = ""
    prompts: int = 300
    longest: int = 256
    whole: bool = False
    field: str = "text"
    label: str = ""
    draws: int = 2000

    def __post_init__(self) -> None:
        check_ranges(self, draws=at_least(1, what="uniform samples of the dip test"))
        self._material()

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states of prompts and of their changed copies."""
        del anatomy
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=self._material())

    def _material(self) -> PromptVariants:
        return PromptVariants(self.source, self.prompts, self.longest, self.whole, self.field, self.label)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a window: its entropies [mode, state], and what is known of it."""
        del given
        about = [w.about for w in seen.windows]
        own = np.array([a["variant"] == "as_is" for a in about])
        later = batch.mask.clone()
        later[:, 0] = False
        wanted = np.stack([np.ones(len(own), bool), own, own], 1)
        entropy = entropies(seen, (batch.mask, later, seen.plain.to(batch.mask.device)), wanted)
        columns = {
            "entropy": np.where(entropy.degenerate == 1, np.nan, entropy.normalised),
            "features": np.array([[a.get("features", {}).get(f, np.nan) for f in FEATURES] for a in about]),
            "inside": _inside(model, batch, seen), "peak": _peaks(seen),
            "prompt": np.array([a["prompt"] for a in about]), "unit": np.array(seen.units, dtype=str),
            "document": np.array([w.document for w in seen.windows], dtype=str),
            **{n: np.array([str(a.get(n, "")) for a in about]) for n in ("variant", "label", "shown")},
        }  # fmt: skip
        return Tally({"prompts": Rows(np.array([w.index for w in seen.windows], np.uint64), columns, 10**7)})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Signs and verdicts at every state, and what goes with the modes."""
        prompts = _prompts(part(total, "prompts", Rows).columns, self.draws, facts)
        found = [*prompts.measurements(), *attributed(prompts)]
        notes = [] if prompts.enough else [f"No verdict: {prompts.lacking}."]
        if prompts.dropped:
            notes.append(
                f"{prompts.dropped} prompts had no two different vectors at some state and are left out."
            )
        if prompts.enough and len(prompts.entropy) < 3 * FEWEST:
            notes.append(f"{len(prompts.entropy)} prompts are few: modes that lie close can be missed.")
        return Findings({m.name: m for m in found}, {"exemplars": exemplars(prompts)}, notes=tuple(notes))


def _inside(model: Model, batch: Batch, seen: View) -> np.ndarray:
    """`INSIDE` of every window, [row, 4].

    Mean loss (NaN for encoders and for models without an unembedding), massive positions, the first of them (the length
    where there is none), and whether position 0 is one.
    """
    norms = seen.norms[1:]
    massive = (norms > MASSIVE * norms.nanmedian(-1, keepdim=True).values).any(0)
    place = torch.arange(batch.length, device=massive.device)
    first = torch.where(massive, place, batch.length).amin(-1)
    loss = torch.full((batch.rows,), torch.nan, dtype=torch.float64)
    if model.anatomy.family.causal and model.anatomy.has_unembedding():
        for row in range(batch.rows):
            logits = model.head.logits(seen.each_state[-1][row, :-1]).double()
            following = batch.ids[row, 1:].to(logits.device)
            loss[row] = torch.nn.functional.cross_entropy(logits, following).cpu()
    counts = torch.stack([massive.sum(-1), first, massive[:, 0]], 1).double().cpu()
    return torch.cat([loss[:, None], counts], 1).numpy()


def _peaks(seen: View) -> np.ndarray:
    """Largest over median norm, [row, state]."""
    norms = seen.norms
    return (norms.nan_to_num(0).amax(-1) / norms.nanmedian(-1).values).T.double().cpu().numpy()


def _prompts(columns: Mapping[str, np.ndarray], draws: int, facts: Facts) -> Prompts:
    """Prompts with their changed copies beside them; those without an entropy somewhere are left out."""
    own = np.flatnonzero(columns["variant"] == "as_is")
    own = own[np.argsort(columns["prompt"][own], kind="stable")]
    fine = np.isfinite(columns["entropy"][own]).all((1, 2))
    kept = own[fine]
    place = {int(p): k for k, p in enumerate(columns["prompt"][kept])}
    changed = np.full((len(kept), len(CHANGES), columns["entropy"].shape[2]), np.nan)
    for row, variant in enumerate(columns["variant"]):
        at = place.get(int(columns["prompt"][row]))
        if variant in CHANGES and at is not None:
            changed[at, CHANGES.index(variant)] = columns["entropy"][row, 0]
    features = {name: columns["features"][kept, k] for k, name in enumerate(FEATURES)}
    features |= {name: columns["inside"][kept, k] for k, name in enumerate(INSIDE)}
    features["peak_ratio"] = columns["peak"][kept]
    labels, counts = np.unique(columns["label"][kept], return_counts=True)
    for label in labels[(counts >= LABELLED) & (labels != "")]:
        features[f"label {label}"] = (columns["label"][kept] == label).astype(np.float64)
    # with few documents the engine counts windows, of which a prompt has several
    unit = "document" if facts.units == "documents" else "prompt"
    return Prompts(
        columns["entropy"][kept], changed, columns["features"][kept, FEATURES.index("tokens")],
        columns["label"][kept], columns["shown"][kept], columns[unit][kept].astype(str), columns["document"][kept],
        features, int((~fine).sum()), draws, facts,
    )  # fmt: skip
