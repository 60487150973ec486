"""Predictability: how much of a state the states before it tell.

Question: How much of each layer's state at a position can be predicted from the states before it, and does what remains
follow how surprising the token is?

Method: A trained predictor f gives expected_t = f(h_0 .. h_(t-1)) for positions 1 and on; novel_t = h_t - expected_t,
in float32. It never sees token t. r2 = 1 - |novel|^2 / variance of the states read here, where the definition says
which
variance: dim (each dimension around its own mean), element (one variance of all numbers), uniform (mean of the
dimensions' own values), position (each dimension around its mean at that position); late (positions from `late` on),
plain (without massive positions), fresh (positions whose last 8 tokens stand nowhere else in the text) and
without_top (without the 3 dimensions of largest variance) are dim on a part. Surprisal is -ln p of the token at the
same position. Correlations are Spearman's over windows at each position, or over all later positions with ranks
within each; partial ones take out the norm of the state and the token's log frequency in the text read. Intervals
resample documents.

How to read: r2 dim of 0 is what knowing the mean gives. Compare with baseline_r2: copy takes h_(t-1), position_mean
knows the mean at each position. A correlation with surprisal above 0 says that what the predictor misses is what the
model did not expect to read. correlation_by_offset should peak at offset 0; a peak elsewhere is a shifted index.

What misleads: r2 element is high for anything that knows a large mean. A few dimensions of large variance rule dim: see
uniform and without_top. A low r2 may be a weak or short-trained predictor and says nothing of the model alone: read the
predictor's card. Text that the predictor was trained on flatters it. Norms of states vary with position and token:
trust the partial correlation.

Source: Sekiguchi, Ishigaki and Maeda (predictable and novel components of hidden states); which variance, the partial
correlations and the parts are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.novelty_findings import SUBSETS, findings
from depthscope.engine.predicted import check_predictor, digest_of, fresh, position_groups, predictors_of
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.materials.reserved_text import ReservedText
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import Predictor, novelty, split

_ALL = 10**7
"""Windows that are kept."""


@dataclass(frozen=True)
class Predictability:
    """Predictable share of states by layer, and what the rest goes with.

    Args:
        predictor: the folder of predictors; `--predictor` sets it. digest: of the predictors in it; filled in by
            itself.
        source: a text whose reserved documents are read instead of the run's text, `tokens` of them in windows of
            `window`: documents that nothing is trained on, see `materials.reserved_text`.
        late: first position of what is called late. fewest: windows that a correlation at a position needs.
    """

    predictor: str = ""
    digest: str = ""
    source: str = ""
    tokens: int = 65536
    window: int = 256
    late: int = 32
    fewest: int = 16

    def __post_init__(self) -> None:
        check_ranges(self, late=at_least(1), fewest=at_least(3))
        if self.predictor and not self.digest:
            object.__setattr__(self, "digest", digest_of(self.predictor))

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states of the text."""
        check_predictor(self.predictor, anatomy)
        material = ReservedText(self.source, self.tokens, self.window) if self.source else None
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Sums by document for variances, and one row a window with a number at each position."""
        del given
        assert seen.whole is not None
        predictors = predictors_of(self.predictor, model)
        sites = model.anatomy.states()
        kept = self._subsets(seen)
        longest = max(len(w.ids) for w in seen.whole.items)
        layers = [_Layer.of(predictors.at(s), seen[sites[s]]) for s in predictors.states]
        numbers = np.asarray([s - 1 for s in predictors.states], np.int64)
        return Tally({
            **_sums(layers, kept, seen.units, longest),
            "reference": Rows(np.zeros(1, np.uint64), {
                "layer": numbers[None], "mean": np.stack([one.mean for one in layers])[None],
            }, 1),
            "windows": _windows(layers, model, batch, seen, longest),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Shares by definition, curves by position, correlations with surprisal."""
        return findings(total, facts, self.late, self.fewest)

    def _subsets(self, seen: View) -> np.ndarray:
        """Which targets belong to each of SUBSETS, [subset, row, position from 1]."""
        assert seen.whole is not None
        length = seen.seen.batch.length
        late = np.broadcast_to(np.arange(1, length) >= self.late, (len(seen.windows), length - 1))
        plain = seen.plain[:, 1:].cpu().numpy()
        whole = seen.whole
        new = np.stack([fresh(whole, w)[1:length] for w in seen.windows])
        assert len(SUBSETS) == 3
        return np.stack([late, plain, new])


@dataclass(frozen=True)
class _Layer:
    """One layer's parts in one shard: states minus the mean of the predictor's text, and the rest, float64 on the CPU.

    Args:
        centred, novel: [row, position from 1, d]. copied: |h_t - h_(t-1)|, [row, position from 1]. numbers: by name,
            the same.
    """

    mean: np.ndarray
    centred: np.ndarray
    novel: np.ndarray
    copied: np.ndarray
    numbers: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, predictor: Predictor, stream: Tensor) -> _Layer:
        parts = split(predictor, stream)
        mean = predictor.mean.to(parts.h)
        centred, guessed = parts.h - mean, parts.expected - mean
        copied = torch.linalg.vector_norm(parts.h - stream[:, :-1].float(), dim=-1)
        nothing = torch.full_like(copied, torch.nan)
        nats = novelty(predictor, stream) if predictor.design.variance else (nothing, nothing)
        numbers = {
            "novel": _norm(parts.novel), "norm": _norm(parts.h), "distance": _norm(centred),
            "cosine": torch.nn.functional.cosine_similarity(centred, guessed, dim=-1),
            "nats": nats[0], "nats_alone": nats[1],
        }  # fmt: skip
        return cls(
            _plain(mean), _plain(centred), _plain(parts.novel), _plain(copied),
            {name: values.float().cpu().numpy() for name, values in numbers.items()},
        )  # fmt: skip


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1)


def _plain(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _sums(
    layers: list[_Layer], kept: np.ndarray, units: tuple[str, ...], longest: int
) -> dict[str, PerDocument | Sum]:
    """Sums and squares: by document and dimension, by document of each part, by part and by position."""
    rows, positions = kept.shape[1:]
    dims = np.stack(
        [np.stack([x.centred.sum(1), (x.centred**2).sum(1), (x.novel**2).sum(1)], 1) for x in layers], 1
    )
    copied = np.stack([(x.copied**2).sum(1) for x in layers], 1)
    energy = np.stack([np.stack([(v**2).sum(-1) for v in (x.centred, x.novel)], -1) for x in layers], 1)
    weight = kept.astype(np.float64)
    parts = np.einsum("srp,rlpe->rlse", weight, energy)
    counts = np.repeat(kept.sum(2).T[:, None], len(layers), 1)
    group = position_groups(longest)[1 : positions + 1]
    members = np.eye(int(position_groups(longest).max()) + 1)[group]
    kept_sums = np.stack([np.einsum("srp,rpd->sd", weight, x.centred) for x in layers])
    place_sums = np.stack([np.einsum("pg,pd->gd", members, x.centred.sum(0)) for x in layers])
    return {
        "dims": PerDocument.of_sums(units, dims, np.full(rows, positions)),
        "copied": PerDocument.of_sums(units, copied, np.full(rows, positions)),
        "parts": PerDocument.of_sums(units, parts, counts),
        "part_means": Sum(kept_sums, kept.sum((1, 2))),
        "positions": Sum(place_sums, rows * members.sum(0).astype(np.int64)),
    }


def _windows(layers: list[_Layer], model: Model, batch: Batch, seen: View, longest: int) -> Rows:
    """One row a window: numbers [position, layer], surprisal and log frequency [position]; NaN beyond its end."""
    assert seen.whole is not None
    columns = {
        name: _padded(np.stack([x.numbers[name] for x in layers], -1), longest) for name in layers[0].numbers
    }
    columns["surprisal"] = _padded(_surprisal(model, batch, seen), longest)
    frequency = np.log(seen.whole.occurrences[batch.ids[:, 1:].cpu().numpy()])
    columns["frequency"] = _padded(frequency.astype(np.float32), longest)
    columns["unit"] = np.asarray(seen.units, str)
    return Rows(np.array([w.index for w in seen.windows], np.uint64), columns, _ALL)


def _padded(values: np.ndarray, longest: int) -> np.ndarray:
    """Values of positions 1.. on an axis from 0 to the longest window."""
    found = np.full((len(values), longest, *values.shape[2:]), np.nan, np.float32)
    found[:, 1 : values.shape[1] + 1] = values
    return found


def _surprisal(model: Model, batch: Batch, seen: View) -> np.ndarray:
    """-ln p of the token at positions 1.., each from the final state one position before it; NaN without a head."""
    shape = (batch.rows, batch.length - 1)
    if not model.anatomy.has_unembedding():
        return np.full(shape, np.nan)
    final = seen[model.anatomy.states()[-1]][:, :-1].flatten(0, 1)
    trace = model.head.decode(final[None], final, Decode(target=True), batch.ids[:, 1:].flatten())
    assert trace.cross_entropy is not None
    return trace.cross_entropy[0].reshape(shape).cpu().numpy()
