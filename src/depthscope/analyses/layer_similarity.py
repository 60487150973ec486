"""Layer similarity: how alike the states of a model are, each with each.

Question: Which states hold the same arrangement of texts, and at which layer does it change?

Method: Each passage is pooled to one vector at every state: by the mean of its tokens, and by the means without the
first token and without massive ones. For every pair of states: cka is linear CKA, the cosine of the two centred Gram
matrices over texts; debiased_cka leaves their diagonals out, so that unrelated vectors have 0; knn_overlap is the mean
Jaccard overlap of the nearest texts; procrustes_distance what is left between the centred vectors, scaled to norm 1,
after the best rotation; svcca the mean canonical correlation of the leading directions. change of a layer is 1 minus
debiased CKA of the states before and after it.

How to read: Bright blocks along the diagonal are stretches of layers that keep the arrangement; a dark line between two
blocks is a layer that changes it. knn_overlap is to be compared with knn_chance.

What misleads: With fewer texts than dimensions plain CKA, Procrustes and SVCCA find unrelated vectors alike: read
debiased_cka. One massive token in each text can carry a whole Gram matrix: read the modes without the first token and
without massive ones. Where a token is massive in some texts only, leaving it out there changes the arrangement too.
Neighbouring states are alike because layers add little. Similar arrangements need not mean similar use.

Source: Kornblith et al. 2019 (linear CKA); Song et al. 2012 (unbiased HSIC); Ding et al. 2021 (Procrustes); Raghu et
al. 2017 (SVCCA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import layers, part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.similarity_findings import Compared, biased, check
from depthscope.engine.tally import Tally, Vectors
from depthscope.engine.view import View
from depthscope.materials.passages import Passages
from depthscope.measures.pooling import pool
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class LayerSimilarity:
    """Similarities of pooled vectors between all pairs of states.

    Args:
        source: what passages are taken from; "" is the packaged sample. texts: how many. words: of each.
        poolings: vectors that are compared, see `measures.pooling`. neighbours: nearest texts that are looked at, at
            most half of the others. share: of the variance that SVCCA keeps, at most a fifth as many directions as
            there are texts.
    """

    source: str = ""
    texts: int = 128
    words: int = 32
    poolings: tuple[str, ...] = ("mean", "mean_no_first", "mean_no_massive")
    neighbours: int = 10
    share: float = 0.99

    def __post_init__(self) -> None:
        check(self.poolings, self.neighbours, self.share)

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states of all passages."""
        del anatomy
        material = Passages(self.source, self.texts, self.words)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One vector a passage, pooling and state."""
        del model, given
        vectors = torch.stack([pool(seen.states, batch.mask, pooling) for pooling in self.poolings])
        keys = np.asarray([w.about["text"] for w in seen.windows], np.uint64)
        return Tally({"vectors": Vectors.of(keys, seen.units, vectors.movedim(2, 0).cpu().numpy())})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Maps of state by state, and the change of each layer."""
        stored = part(total, "vectors", Vectors)
        vectors = torch.from_numpy(stored.values).movedim(0, 2)
        states = dict(zip(self.poolings, vectors, strict=True))
        note = f"{len(stored.key)} texts of {self.words} words at most, states before the final norm"
        units = tuple(map(str, stored.units))
        compared = Compared(states, states, units, self.neighbours, self.share, facts, note)
        axes = {**layers(facts), **compared.modes}
        change = compared.from_cka("change", axes, _change, "1 minus debiased CKA across the layer")
        return Findings(
            {m.name: m for m in (*compared.maps(), change)}, notes=biased(compared, facts.d_model)
        )


def _change(cka: np.ndarray) -> np.ndarray:
    """Of each layer and mode."""
    here = np.arange(len(cka) - 1)
    return 1 - cka[here, here + 1]
