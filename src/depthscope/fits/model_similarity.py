"""Model similarity: how alike the states of two models are, over the same texts.

Question: Which states of another model arrange texts as this one's do, and at which depth do the two part?

Method: Each passage is read by both models, pooled to one vector at every state, and compared over the texts: linear
CKA, its debiased form, shared nearest texts, Procrustes distance and SVCCA of every state of the one with every state
of the other, as in layer_similarity. Widths, depths and tokenizers may differ: only the texts must be the same.
same_depth is debiased CKA of the states of equal relative depth; best_match the other model's state with the largest
debiased CKA. late_minus_early is the mean of same_depth over the last third of the states minus that over the first.

How to read: same_depth near 1 says that the models agree at that depth. Of a model and its fine-tuned copy it shows
where training has changed the arrangement of texts; late_minus_early below 0 says: rather late.

What misleads: Early states of models with one tokenizer are alike because they are near the same embeddings. With fewer
texts than dimensions plain CKA finds even a network of random weights alike: read debiased_cka and run --control
untrained beside it. One massive token in each text can carry a Gram matrix: read the mode without massive tokens.

Source: Kornblith et al. 2019 (linear CKA); Song et al. 2012 (unbiased HSIC); Ding et al. 2021 (Procrustes); Raghu et
al. 2017 (SVCCA).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.needs import Facts
from depthscope.engine.pooled import pooled_views
from depthscope.engine.provenance import hashed, identity
from depthscope.engine.similarity_findings import Compared, biased, check
from depthscope.engine.study import Work
from depthscope.engine.tally import Tally, Vectors
from depthscope.errors import UnknownName
from depthscope.materials.passages import Passages, key
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import untrained

CONTROLS = ("untrained",)
"""Other models that are made of the first."""
THIRD = 3


@dataclass(frozen=True)
class ModelSimilarity:
    """Similarities between the states of two models.

    Args:
        other: name of `target`, or "untrained": random weights of the same configuration.
        source, texts, words: passages that both read, see `materials.passages`. poolings, neighbours, share: as in
            layer_similarity.
        target: the other model.
    """

    other: str = "untrained"
    source: str = ""
    texts: int = 128
    words: int = 32
    poolings: tuple[str, ...] = ("mean", "mean_no_first", "mean_no_massive")
    neighbours: int = 10
    share: float = 0.99
    target: InitVar[Model | None] = None

    def __post_init__(self, target: Model | None) -> None:
        check(self.poolings, self.neighbours, self.share)
        if target is not None:
            target = hashed(target)
            object.__setattr__(self, "other", target.name)
        elif self.other not in CONTROLS:
            raise UnknownName("other model without a model", self.other, CONTROLS)
        object.__setattr__(self, "_target", target)

    def depends(self) -> Mapping[str, Any]:
        """The other model, where it is one of its own, and the passages."""
        given: Model | None = getattr(self, "_target", None)
        texts = hashlib.sha256("\0".join(text for _, text in self._passages).encode()).hexdigest()
        return {"passages": texts} | ({} if given is None else {"other": identity(given)})

    @cached_property
    def _passages(self) -> Sequence[tuple[str, str]]:
        """(document, text)."""
        return Passages(self.source, self.texts, self.words).read()[1]

    def run(self, work: Work) -> Findings:
        """Vectors of both models, kept in the folder, then all maps.

        Raises:
            What reading the passages raises.
        """
        given: Model | None = getattr(self, "_target", None)
        other = given or untrained(work.model, work.seed)
        first, second = (
            self._vectors(model, work, number) for number, model in enumerate((work.model, other))
        )
        documents = tuple(document for document, _ in self._passages)
        facts = Facts.of(work.model.anatomy, "documents", work.seed, work.model.name)
        note = f"{len(documents)} texts of {self.words} words at most; across: {other.name}"
        compared = Compared(first, second, documents, self.neighbours, self.share, facts, note)
        found = [*compared.maps(), *_depths(compared, work.model.anatomy.n_layers, other.anatomy.n_layers)]
        widest = max(work.model.anatomy.d_model, other.anatomy.d_model)
        said = f"{work.model.name} (down) and {other.name} (across), {len(documents)} texts."
        return Findings({m.name: m for m in found}, notes=(said, *biased(compared, widest)))

    def _vectors(self, model: Model, work: Work, number: int) -> dict[str, Tensor]:
        """Pooling -> [state, text, d]; read from the folder where a killed run left it."""
        about = [identity(model), self.depends(), list(self.poolings), work.seed]
        digest = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:12]
        path = work.folder / "parts" / "vectors" / f"{digest}.npz"
        texts = [text for _, text in self._passages]
        if not path.exists():
            views = pooled_views(model, texts, [(pooling, False) for pooling in self.poolings])
            keys, units = np.asarray([key(text) for text in texts], np.uint64), [""] * len(texts)
            path.parent.mkdir(parents=True, exist_ok=True)
            Tally({
                pooling: Vectors.of(keys, units, found.vectors.swapaxes(0, 1)) for (pooling, _), found in views.items()
            }).save(path)  # fmt: skip
        work.progress("similarity", number + 1, 2)
        stored = Tally.load(path)
        # stored in the order of keys, wanted in that of the texts
        place = np.argsort(np.argsort([key(text) for text in texts]))
        values = {name: part.values[place] for name, part in stored.items() if isinstance(part, Vectors)}
        return {pooling: torch.from_numpy(values[pooling]).transpose(0, 1) for pooling in self.poolings}


def _depths(compared: Compared, depth: int, other: int) -> list[Measurement]:
    """What the map says along equal relative depth."""
    here = np.arange(depth + 1)
    there = np.rint(here * other / depth).astype(int)
    early, late = here <= depth / THIRD, here >= depth - depth / THIRD
    axes = {"state": here, **compared.modes}

    def same(cka: np.ndarray) -> np.ndarray:
        return cka[here, there]

    best = compared.resampled["debiased_cka"][0]
    matched = np.where(np.isnan(best).all(1), np.nan, np.nan_to_num(best, nan=-2.0).argmax(1))
    return [
        compared.from_cka("same_depth", axes, same, "debiased CKA of the states of equal relative depth"),
        compared.measurement("best_match", axes, matched, note=f"state of the other model, of {other}"),
        compared.from_cka(
            "late_minus_early",
            compared.modes,
            lambda cka: same(cka)[late].mean(0) - same(cka)[early].mean(0),
            "same_depth, last third of the states minus first third",
        ),
    ]
