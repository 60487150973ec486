"""From the steps of component steering to measurements: effects of each change, and scores of written texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.engine.measured import Axes, difference, mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.fits.steering_effects import ABLATED, METRICS, SCALED, SPACES, SWAPPED, TARGETS, Cell
from depthscope.fits.steering_writing import WRITTEN
from depthscope.materials.window import Window
from depthscope.results.measurement import Measurement, Table

UNITS = {"kl": "nats", "loss": "nats", "same_own": "probability", "same_other": "probability", "gain": "nats",
         "gain_own": "nats"}  # fmt: skip
MEANING = {
    "kl": "KL(unsteered || steered) of the next token",
    "loss": "cross-entropy of the text's own next token, steered minus unsteered",
    "same_own": "share of positions whose top-1 is that of the unsteered model on the same text",
    "same_other": "share of positions whose top-1 is that of the unsteered model on the other text, same position",
    "gain": "log-probability of all wanted tokens together, steered minus unsteered",
    "gain_own": "log-probability of all tokens that tell the text's own domain, steered minus unsteered",
}
SHOWN: Mapping[str, tuple[str, ...]] = {
    "scale": ("kl", "loss", "same_own"),
    "ablate": ("kl", "loss", "same_own", "gain_own"),
    "swap": METRICS,
    "vector": ("kl", "loss", "gain"),
}
NAMED = ("prompt", "own", "other", "variant")
"""Columns of the examples after the number of the pair."""
SCORES = (
    "towards_other",
    "other_domain",
    "own_domain",
    "shared_other",
    "shared_own",
    "distinct_1",
    "distinct_2",
)
ABOUT = {
    "towards_other": "the judge's probability of the domain of A over that of A or B: 0.5 where it cannot tell which",
    "other_domain": "the judge's probability that the text is from the domain of A",
    "own_domain": "the judge's probability that the text is from the domain of B, whose prompt was continued",
    "shared_other": "of the different tokens written, the hundred commonest left out, the share that text A has",
    "shared_own": "of the different tokens written, the hundred commonest left out, the share that text B has",
    "distinct_1": "different tokens over tokens",
    "distinct_2": "different pairs of tokens over pairs",
}


@dataclass(frozen=True, eq=False)
class Effects:
    """Sums over the positions of each pair.

    Args:
        sums: [pair layer cell metric]; counts: [pair layer]. unchanged: [layer]. units: of each pair.
    """

    sums: np.ndarray
    counts: np.ndarray
    unchanged: np.ndarray
    plan: Sequence[Cell]
    layers: Sequence[int]
    units: tuple[str, ...]
    facts: Facts

    @classmethod
    def of(
        cls, steps: Sequence[Sequence[Mapping[str, Any]]], plan: Sequence[Cell], layers: Sequence[int],
        units: tuple[str, ...], facts: Facts,
    ) -> Effects:  # fmt: skip
        """From the steps of each layer and pair."""
        sums = np.asarray([[pair["sums"] for pair in layer] for layer in steps], np.float64).swapaxes(0, 1)
        counts = np.asarray([[pair["count"] for pair in layer] for layer in steps], np.int64).T
        unchanged = np.asarray([max(pair["unchanged"] for pair in layer) for layer in steps], np.float64)
        return cls(sums, counts, unchanged, plan, layers, units, facts)

    def measurements(self) -> dict[str, Measurement]:
        """By name: `<kind of change>_<effect>`, the floor, and paired differences of the swap from its controls."""
        found = [self._one(family, metric) for family, metrics in SHOWN.items() for metric in metrics]
        floor = self._of("nothing", "kl")
        note = "KL of a change of nothing: what another shape of the replay does to the output"
        found += [
            mean(floor, "floor", self._layer_axis, "nats", self.facts, note),
            Measurement(
                "unchanged", self._layer_axis, self.unchanged, "1",
                note="largest difference of any number of the last state under a change of nothing; 0: bit for bit",
            ),
            *(self._over(metric) for metric in ("gain", "same_own")),
        ]  # fmt: skip
        return {m.name: m for m in found}

    @property
    def _layer_axis(self) -> dict[str, np.ndarray]:
        return {"layer": np.asarray(self.layers)}

    def _axes(self, family: str) -> Axes:
        levels = list(dict.fromkeys(c.level for c in self.plan if c.family == family))
        own: dict[str, Axes] = {
            "nothing": {},
            "scale": {"variant": np.asarray(SCALED), "level": np.asarray(levels)},
            "ablate": {"variant": np.asarray(ABLATED)},
            "swap": {"variant": np.asarray(SWAPPED)},
            "vector": {
                "target": np.asarray(TARGETS),
                "variant": np.asarray(SPACES),
                "level": np.asarray(levels),
            },
        }
        return {**self._layer_axis, **own[family]}

    def _of(self, family: str, metric: str) -> PerDocument:
        """Sums of one kind of change by [pair layer ...]."""
        at = [k for k, cell in enumerate(self.plan) if cell.family == family]
        values = self.sums[:, :, at, METRICS.index(metric)]
        shape = tuple(len(np.asarray(labels)) for labels in self._axes(family).values())
        values = values.reshape(len(self.units), *shape)
        counts = self.counts.reshape(*self.counts.shape, *(1,) * (values.ndim - 2))
        return PerDocument(self.units, values, np.broadcast_to(counts, values.shape))

    def _one(self, family: str, metric: str) -> Measurement:
        note = f"{MEANING[metric]}; n counts pairs of texts"
        if family == "vector" and metric == "gain":
            note += "; wanted: tokens that tell the domain of A, or tokens of one class"
        found = self._of(family, metric)
        return mean(found, f"{family}_{metric}", self._axes(family), UNITS[metric], self.facts, note)

    def _over(self, metric: str) -> Measurement:
        """The swap minus each of its controls, pairs resampled together."""
        found = self._of("swap", metric)
        others = [k for k, name in enumerate(SWAPPED) if name != "predictable"]
        swap = np.repeat(found.sums[:, :, :1], len(others), axis=2)
        first = PerDocument(self.units, found.sums[:, :, others], found.counts[:, :, others])
        second = PerDocument(self.units, swap, found.counts[:, :, others])
        axes = {**self._layer_axis, "variant": np.asarray([SWAPPED[k] for k in others])}
        note = f"expected of A with novel of B, minus each other change: {MEANING[metric]}"
        return difference(first, second, f"swap_{metric}_over", axes, UNITS[metric], self.facts, note)


@dataclass(frozen=True, eq=False)
class Texts:
    """What was written of each pair.

    Args:
        steps: of each pair variant -> text and scores. about: layer, prompts, and how good the judge is.
    """

    steps: Sequence[Mapping[str, Mapping[str, Any]]]
    pairs: Sequence[tuple[Window, Window]]
    about: Mapping[str, Any]
    facts: Facts

    def measurements(self) -> dict[str, Measurement]:
        """Scores by variant, their difference to the unsteered text, and the judge's accuracy."""
        found = [self._score(name) for name in SCORES]
        found += [self._over(name) for name in ("towards_other", "other_domain")]
        same = [step["nothing"]["ids"] == step["plain"]["ids"] for step in self.steps]
        logprobs = [step["nothing"]["logprobs"] == step["plain"]["logprobs"] for step in self.steps]
        exact = float(np.mean([a and b for a, b in zip(same, logprobs, strict=True)]))
        count = np.asarray(len(self.steps))
        found += [
            Measurement(
                "judge_accuracy", {}, np.asarray(self.about["accuracy"]), "probability",
                n_items=np.asarray(self.about["pieces"]),
                note=f"held-out pieces as long as the written texts, {self.about['labels']} domains",
            ),
            Measurement(
                "written_exactly", {}, np.asarray(exact), "probability", n=count,
                note="share of texts whose tokens and log-probabilities a change of nothing left bit for bit",
            ),
        ]  # fmt: skip
        return {m.name: m for m in found}

    def examples(self) -> dict[str, Table]:
        """Every text beside its scores: a row for each pair and variant."""
        rows = [
            (k, self.about["prompts"][k], str(own.about["label"]), str(other.about["label"]), v, step[v])
            for k, ((own, other), step) in enumerate(zip(self.pairs, self.steps, strict=True))
            for v in WRITTEN
        ]
        columns: dict[str, np.ndarray] = {
            "pair": np.asarray([row[0] for row in rows]),
            **{name: np.asarray([row[k] for row in rows]) for k, name in enumerate(NAMED, 1)},
            "text": np.asarray([row[5]["text"] for row in rows]),
            **{name: np.asarray([row[5][name] for row in rows], np.float64) for name in SCORES},
        }  # fmt: skip
        return {
            "written": Table(
                columns, "one continuation a row; own is the domain of the prompt's text B, other of A"
            )
        }

    def _values(self, name: str) -> PerDocument:
        values = np.asarray([[step[v][name] for v in WRITTEN] for step in self.steps], np.float64)
        fine = np.isfinite(values)
        units = tuple(own.document for own, _ in self.pairs)
        return PerDocument(units, np.where(fine, values, 0.0), fine.astype(np.int64))

    def _note(self, name: str) -> str:
        return f"{ABOUT[name]}; steered at layer {self.about['layer']}; n counts pairs of texts"

    def _score(self, name: str) -> Measurement:
        axes = {"variant": np.asarray(WRITTEN)}
        return mean(self._values(name), f"written_{name}", axes, "probability", self.facts, self._note(name))

    def _over(self, name: str) -> Measurement:
        """Each variant minus the unsteered text of the same prompt."""
        found = self._values(name)
        sums, counts = (np.repeat(part[:, :1], len(WRITTEN), 1) for part in (found.sums, found.counts))
        first = PerDocument(found.units, sums, counts)
        note = f"{self._note(name)}; minus the unsteered text of the same prompt and seed"
        axes = {"variant": np.asarray(WRITTEN)}
        return difference(first, found, f"written_{name}_gain", axes, "probability", self.facts, note)
