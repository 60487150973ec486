"""Augmentation invariance: whether a state still tells a text when the text is disturbed.

Question: At which depth does a text with split words and typing errors keep the vector that tells it from other texts?

Method: Several views of each passage are made by splitting words, replacing characters at random and by neighbours on
the keyboard; each view is read alone and pooled to one vector at every state. Vectors are centred over all texts and
views and scaled to length 1. infonce_loss: a view looks for its partner among the second views of all texts, softmax
over cosine / temperature; infonce_bound is chance minus loss, a lower bound on the mutual information of two views,
infonce_normalised 1 - loss / chance, partner_top1 how often the partner is the nearest. lidar: exp of the entropy of
the eigenvalues of the scatter of texts in units of that of their views; lidar_mean_eigenvalue is their trace over d,
lidar_above how many exceed what noise reaches, lidar_corrected the same exp of entropy of what rises above it. dime:
entropy of entry-wise products of two views' cosine matrices, randomly paired minus truly paired. Everything is done
twice: with the views of each text (views) and with views of texts at random (shuffled).

How to read: A low loss and a high partner_top1 say that noise does not move a text into another's place. lidar reads
with its control: where shuffled groups have the same rank, the rank says nothing and the mean eigenvalue must tell.
Of two LiDARs or losses compare only those of equal numbers of texts and views.

What misleads: Invariance is not quality: the last states of a network with random weights can tell views better than
those of the trained one, so run it with --null untrained. A long text is disturbed less than a short one, since a stage
changes ten words at most. The loss depends on the number of texts: chance is its logarithm. Intervals of the loss hold
the candidates fixed.

Source: Skean et al. 2025, Layer by Layer (arXiv 2502.02013); van den Oord et al. 2018 for InfoNCE; Thilak et al. 2024
(2312.04000) for LiDAR; Skean et al. 2023 (2301.08164) for DiME; the noise edge is Wachter's (1980).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Tally, Vectors
from depthscope.engine.view import View
from depthscope.engine.view_scores import MOST, VARIANTS, WHOLE, Grouped, How, of_all, of_texts
from depthscope.materials.passages import Passages
from depthscope.measures.invariance import LOSSES, chance_loss
from depthscope.measures.lidar import noise_edge, noise_mean
from depthscope.measures.pooling import POOLINGS, pool
from depthscope.ranges import above, at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

MISSING = "vectors that are all alike, fewer than 2 texts, or too few views for the width"
UNITS = {"lidar_entropy": "nats", "dime": "nats", "dime_2": "nats"}


@dataclass(frozen=True)
class AugmentationInvariance:
    """InfoNCE, LiDAR and DiME of disturbed texts at every state.

    Args:
        source: what passages are taken from; "" is the packaged sample. texts: how many passages. views: of each, 2 or
            more; texts x (views - 1) should exceed the width. words: of each passage.
        pooling: one vector out of a view's tokens, see `measures.pooling`.
        temperature: of InfoNCE. draws: random pairings behind DiME. delta: ridge of LiDAR, in units of the mean
            within-scatter of a direction.
        aug_max: the most words that a stage of noise changes; 0: no bound. compat: "reference" for the quoted lists
            that the paper's code made of views.
    """

    source: str = ""
    texts: int = 128
    views: int = 8
    words: int = 32
    pooling: str = "mean"
    temperature: float = 0.1
    draws: int = 10
    delta: float = 1e-4
    aug_max: int = 10
    compat: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, views=at_least(2, below=MOST, what="views of a text"))
        check_names(self, pooling=POOLINGS)
        check_ranges(self, temperature=above(0), draws=at_least(1), delta=at_least(0))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states of all views."""
        del anatomy
        material = Passages(self.source, self.texts, self.words, self.views, self.aug_max, self.compat)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One pooled vector a view and state, and whether the view differs from its text."""
        del model, given
        vectors = pool(seen.states, batch.mask, self.pooling).transpose(0, 1)
        keys = [w.about["text"] * MOST + w.about["view"] for w in seen.windows]
        changed = np.array([float(w.about["changed"]) for w in seen.windows])
        return Tally({
            "vectors": Vectors.of(np.asarray(keys, np.uint64), seen.units, vectors.cpu().numpy()),
            "changed": PerDocument.of(seen.units, changed),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over states for the true and the shuffled groups."""
        true = Grouped.of(part(total, "vectors", Vectors), self.views)
        both = {"views": true, "shuffled": true.shuffled(facts.seed)}
        how = How(self.temperature, self.draws, self.delta, facts.seed)
        shape = true.texts, self.views, facts.d_model
        found = [
            *self._means(of_texts(both, how), true, facts),
            *_wholes(of_all(both, how), true, facts),
            *_floors(*shape),
            mean(
                part(total, "changed", PerDocument),
                "changed_share",
                {},
                "probability",
                facts,
                "views that noise changed",
            ),
        ]
        return Findings({m.name: m for m in found}, notes=tuple(_notes(self, *shape)))

    def _means(self, scores: Mapping[str, np.ndarray], true: Grouped, facts: Facts) -> list[Measurement]:
        note = f"{true.texts} texts, {self.pooling} pooling, states before the final norm"
        held = f"{note}; candidates held fixed"
        by = {**states(facts), "variant": np.asarray(VARIANTS)}
        modes = {**by, "mode": np.asarray(LOSSES)}
        symmetric = scores["loss"][:, :, 0, 0]
        asked: list[tuple[str, np.ndarray, Mapping[str, np.ndarray], str, str]] = [
            ("infonce_loss", scores["loss"], modes, "nats", held),
            ("partner_top1", scores["partner_top1"], by, "probability", f"{held}; chance 1 / {true.texts}"),
            ("positive_cosine", scores["positive_cosine"], by, "1", note),
            ("negative_cosine", scores["negative_cosine"], by, "1", note),
            (
                "loss_above_last",
                symmetric - symmetric[:, -1:],
                states(facts),
                "nats",
                f"{held}; symmetric loss",
            ),
        ]
        found = [
            mean(PerDocument.of(true.units, values), name, axes, unit, facts, said, MISSING)
            for name, values, axes, unit, said in asked
        ]
        chance = np.array([chance_loss(max(true.texts, 1), mode) for mode in LOSSES])
        return [
            *found,
            _turned(found[0], "infonce_bound", lambda x: chance - x, "nats", "chance minus loss"),
            _turned(
                found[0], "infonce_normalised", lambda x: 1 - x / chance, "1", "1 minus loss over chance"
            ),
        ]


def _turned(
    loss: Measurement, name: str, turn: Callable[[np.ndarray], np.ndarray], unit: str, note: str
) -> Measurement:
    """A falling function of the loss, whose interval ends change places."""
    assert loss.low is not None
    assert loss.high is not None
    value, low, high = turn(loss.value), turn(loss.high), turn(loss.low)
    return replace(loss, name=name, value=value, low=low, high=high, unit=unit, note=f"{note}; {loss.note}")


def _wholes(found: tuple[np.ndarray, ...], true: Grouped, facts: Facts) -> list[Measurement]:
    """LiDAR and DiME; intervals by jackknife over groups of units, of the true groups only."""
    axes = {**states(facts), "variant": np.asarray(VARIANTS)}
    note = f"{true.texts} texts; intervals leave out groups of {facts.units}"
    measured: list[Measurement] = []
    for k, name in enumerate(WHOLE):
        value, low, high = (each[..., k] for each in found)
        n, items = (np.where(np.isfinite(value), count, 0) for count in (len(set(true.units)), true.texts))
        missing = MISSING if np.isnan(value).any() else ""
        unit = UNITS.get(name, "1")
        measured.append(Measurement(name, axes, value, unit, low, high, n, items, note, missing))
    return measured


def _floors(texts: int, views: int, d: int) -> list[Measurement]:
    """What LiDAR's eigenvalues come to where texts do not differ."""
    missing = f"{texts} x ({views} - 1) views do not exceed the width {d}"
    floors = {
        "lidar_noise_mean": noise_mean(texts, views, d),
        "lidar_noise_edge": noise_edge(texts, views, d),
    }
    return [
        Measurement(name, {}, np.asarray(value), "1", note="Gaussian vectors without any signal",
                    missing=missing if np.isnan(value) else "")
        for name, value in floors.items()
    ]  # fmt: skip


def _notes(asked: AugmentationInvariance, texts: int, views: int, d: int) -> Iterator[str]:
    yield f"{texts} texts of {asked.words} words at most in {views} views; chance finds 1 partner in {texts}."
    if texts < asked.texts:
        yield f"Fewer texts than the {asked.texts} asked for were there, or could be read in all their views."
    if texts * (views - 1) <= 2 * d:
        yield (
            f"{texts} x ({views} - 1) views are few for {d} dimensions: LiDAR knows their scatter badly, and where "
            "they are fewer than the dimensions its ridge decides."
        )
