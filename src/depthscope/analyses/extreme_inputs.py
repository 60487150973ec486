"""Extreme inputs: what repetition, random tokens and length do to the spread of token vectors.

Question: How does the prompt entropy of each state change when a text is made repetitive, random, longer or shorter?

Method: Paragraphs are edited on their token ids: each position takes one drawn token of the text (repetition, p from 0
to 0.9) or a uniform random id (randomness, p from 0 to 1) with probability p; texts are cut to shares of their length
(truncation); fully random texts of several lengths (length) and copies of one token (copies) stand beside them.
Entropy is S1 of the spectrum of centred unit token vectors over ln of the largest number of directions, raw in nats
without that. Mode exact edits and counts every position; first_kept leaves position 0 as it was and out of the
entropy. slope is the least-squares slope of a text's entropy over p (over the logarithm of the number of tokens where
that changes), averaged over texts; slope_by_depth averages over the layers of each third first. The same draws serve
all levels, so slopes are paired. A text whose token vectors are all equal has entropy 0 and is counted in degenerate.
Units are texts, or their documents.

How to read: A negative slope of repetition says that repeated tokens are held in fewer directions at that state, a
positive slope of randomness that random tokens spread over more. raw_slope of length is 1 where the entropy keeps pace
with the logarithm of the length, and below 1 where it lags behind.

What misleads: State 0 holds nothing but token vectors, so its slope is that of the text itself, not of the model. In
exact mode an edit of position 0 can move a massive token: trust what first_kept shows too. Random ids are no language:
a model was never trained on them. Entropy is not quality.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013), appendix on extreme inputs; the paired draws, the mode
with the first token kept and the slopes are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.extreme_findings import found
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.prompt_entropies import entropies
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.extremes import MODES, Extremes
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

FEWEST = 8


@dataclass(frozen=True)
class ExtremeInputs:
    """Entropies of edited texts, by level.

    Args:
        source, prompts, longest, levels, lengths, draws, copies: see `materials.extremes.Extremes`.
    """

    source: str = ""
    prompts: int = 32
    longest: int = 128
    levels: tuple[int, ...] = (9, 10, 5)
    lengths: tuple[int, ...] = (64, 128, 256, 512)
    draws: int = 16
    copies: tuple[int, ...] = (2, 10, 99)

    def __post_init__(self) -> None:
        self._material()

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states of edited texts."""
        del anatomy
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=self._material())

    def _material(self) -> Extremes:
        return Extremes(
            self.source, self.prompts, self.longest, self.levels, self.lengths, self.draws, self.copies
        )

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a window: its entropies [mode, state], NaN in the mode that it does not serve."""
        del model, given
        about = [w.about for w in seen.windows]
        later = batch.mask.clone()
        later[:, 0] = False
        serves = np.array([[mode in a["modes"] for mode in MODES] for a in about])
        entropy = entropies(seen, (batch.mask, later), serves)
        columns = {
            "normalised": entropy.normalised, "raw": entropy.raw, "degenerate": entropy.degenerate,
            "tokens": np.array([len(w.ids) for w in seen.windows]),
            **{name: np.array([a[name] for a in about]) for name in ("kind", "level", "text", "source")},
        }  # fmt: skip
        return Tally({"texts": Rows(np.array([w.index for w in seen.windows], np.uint64), columns, 10**7)})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves by level, slopes by state and by third of the depth, and how often there was nothing to spread."""
        columns = part(total, "texts", Rows).columns
        texts = len(np.unique(columns["text"]))
        few = (f"Only {texts} texts: intervals over so few say little.",) if texts < FEWEST else ()
        return Findings(found(columns, facts), notes=few)
