"""Grammar in training: when heads begin to follow grammar, and when the model begins to prefer what is grammatical.

Question: Do heads that follow grammatical relations appear before the ability to tell right sentences from wrong ones?

Method: Every checkpoint of a training is audited with grammar_heads and minimal_pairs on the same sentences, in a run
folder of its own under checkpoints/. At each checkpoint heads are chosen anew on one half of the sentences and judged
on the other: uas over all relations, subject_accuracy for nsubj. pair_accuracy and attractor_accuracy are the shares of
minimal pairs with the right sentence ahead, all and those with a noun of the other number before the verb. loss is that
of the right sentences. The onset of a curve is the checkpoint with its largest second difference over ln(1 + step),
after medians of three neighbours; intervals resample sentences, and pairs.

How to read: An onset is where a curve begins to climb (the loss: to stop falling is not meant, but to fall). Where the
intervals of two onsets lie apart, their order is decided; a note says so, or that it is not.

What misleads: One training is one draw: other seeds may order things otherwise. Onsets can only fall on checkpoints.
Before a head is better than the best offset its accuracy may climb too; what comes first need not be what causes the
rest. In a model this small a single head may serve several relations.

Source: Chen et al. 2024, Sudden Drops in the Loss (arXiv 2309.07311); BLiMP, Warstadt et al. 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.engine.checkpoints import NAME as FOLDER
from depthscope.engine.checkpoints import follow
from depthscope.engine.grammar_findings import GrammarFindings
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts
from depthscope.engine.reading import Reading
from depthscope.engine.saved import Saved, in_folder
from depthscope.engine.study import Work
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.errors import BadInput
from depthscope.measures.acceleration import FEWEST, onset_step
from depthscope.measures.statistics import Interval, bootstrap_curve, bootstrap_ratio
from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings

CURVES = ("loss", "uas", "subject_accuracy", "pair_accuracy", "attractor_accuracy")
TOTALS = "totals"
DRAWS = 1000


@dataclass(frozen=True)
class GrammarEmergence:
    """Checkpoints of one training against grammar.

    Args:
        folder: holds a folder for each checkpoint, its step in its name. parses, pairs: sources of `grammar_heads` and
            `minimal_pairs`. sentences: parsed ones. per_paradigm: pairs of each paradigm. fewest: see `grammar_heads`.
    """

    folder: str
    parses: str = "agreement"
    pairs: str = "agreement"
    sentences: int = 200
    per_paradigm: int = 100
    fewest: int = 10

    def depends(self) -> Mapping[str, Any]:
        """The checkpoints, by the sizes of their files."""
        return {"checkpoints": [[s.label, s.step, sorted(p[:2] for p in s.prints())] for s in self.saved()]}

    def saved(self) -> tuple[Saved, ...]:
        """The checkpoints in the order of their steps.

        Raises:
            BadInput: for fewer than an onset is found in.
        """
        found = in_folder(self.folder)
        enough([saved.step for saved in found], f"--folder {self.folder}")
        return found

    def run(self, work: Work) -> Findings:
        """Audit every checkpoint, then lay curves and onsets over them."""
        saved = self.saved()
        asked = [
            ANALYSES["grammar_heads"](source=self.parses, sentences=self.sentences, fewest=self.fewest),
            ANALYSES["minimal_pairs"](source=self.pairs, pairs=self.per_paradigm),
        ]
        texts = [" ".join(["text"] * 64)] * 8  # read by nobody: both analyses bring their own sentences
        out = work.folder / FOLDER
        follow(
            saved, asked, out=out, reading=Reading(texts, tokens=256, window=32), seed=work.seed,
            progress=work.progress, command="",
        )  # fmt: skip
        facts = Facts.of(work.model.anatomy, "documents", work.seed)
        sums = [_sums(out / FOLDER / one.label / TOTALS, facts, self.fewest) for one in saved]
        return findings(sums, [one.step for one in saved], work.seed)


def enough(steps: Sequence[int], where: str) -> None:
    """Nothing, where an onset can be found among these steps; `where` says whose they are.

    Raises:
        BadInput: for fewer than 4.
    """
    if len(steps) < FEWEST:
        said = ", ".join(map(str, steps)) or "none"
        raise BadInput(
            f"{where} has checkpoints at {len(steps)} steps ({said}); an onset needs {FEWEST} or more"
        )


def _sums(folder: Path, facts: Facts, fewest: int) -> dict[str, PerDocument]:
    """Sums and counts of one checkpoint, by sentence or pair."""
    grammar, pairs = (Tally.load(folder / f"{name}.npz") for name in ("grammar_heads", "minimal_pairs"))
    found = GrammarFindings.of(
        part(grammar, "items", Rows).columns, part(grammar, "rests", PerDocument), facts, fewest
    )
    c = part(pairs, "sentences", Rows).columns
    good = c["good"]
    names, first, second = np.intersect1d(c["unit"][good], c["unit"][~good], return_indices=True)
    own, other = np.flatnonzero(good)[first], np.flatnonzero(~good)[second]
    right = (c["log_probability"][own] > c["log_probability"][other]).astype(np.float64)
    units = [str(n) for n in names]
    hard = np.where(c["paradigm"][own] == "attractor", right, np.nan)
    return {
        "loss": PerDocument.of_sums(units, -c["log_probability"][own], c["tokens"][own]),
        "uas": found.parse_sums(),
        "subject_accuracy": found.parse_sums("nsubj"),
        "pair_accuracy": PerDocument.of(units, right),
        "attractor_accuracy": PerDocument.of(units, hard),
    }


def findings(sums: Sequence[Mapping[str, PerDocument]], steps: Sequence[int], seed: int) -> Findings:
    """Curves over checkpoints with intervals, and the onset of each."""
    at = np.asarray(steps, np.int64)
    found: dict[str, Measurement] = {}
    onsets: dict[str, Interval] = {}
    for name in CURVES:
        top, bottom = _laid([one[name] for one in sums])
        curve = bootstrap_ratio(top, bottom, DRAWS, seed)
        sign = -1.0 if name == "loss" else 1.0

        def onset(curves: np.ndarray, sign: float = sign) -> np.ndarray:
            return onset_step(sign * curves, at)[:, None]

        onsets[name] = bootstrap_curve(top, bottom, onset, DRAWS, seed).holding()
        n, items = (bottom > 0).sum(0), bottom.sum(0)
        unit = "nats" if name == "loss" else "probability"
        gap = "no pair of this kind, or too few questions" if np.isnan(curve.value).any() else ""
        found[name] = Measurement(
            name, {"step": at}, curve.value, unit, curve.low, curve.high, n, items, missing=gap
        )
    value, low, high = (np.array([np.ravel(onsets[n][k])[0] for n in CURVES]) for k in range(3))
    note = "step of the largest second difference over ln(1 + step); intervals over sentences or pairs"
    missing = "the curve bends upwards nowhere" if np.isnan(value).any() else ""
    axes = {"score": np.array(CURVES)}
    found["onset"] = Measurement("onset", axes, value, "1", low, high, note=note, missing=missing)
    return Findings(found, notes=(order(found["onset"]),))


def order(onset: Measurement) -> str:
    """Whether structure (subject_accuracy) sets in before capability (attractor_accuracy), or that it is open."""
    assert onset.low is not None
    assert onset.high is not None
    names = onset.axes["score"].tolist()
    a, b = names.index("subject_accuracy"), names.index("attractor_accuracy")
    if not np.isfinite([onset.value[a], onset.value[b]]).all():
        return "Structure and capability: not decided, one of them never sets in."
    said = [f"step {onset.value[k]:.0f} [{onset.low[k]:.0f}, {onset.high[k]:.0f}]" for k in (a, b)]
    if onset.high[a] < onset.low[b]:
        return f"Heads that find the subject set in before agreement across attractors: {said[0]}, then {said[1]}."
    if onset.high[b] < onset.low[a]:
        return f"Agreement across attractors sets in before heads that find the subject: {said[1]}, then {said[0]}."
    return f"Structure and capability: not decided, {said[0]} and {said[1]} overlap."


def _laid(parts: Sequence[PerDocument]) -> tuple[np.ndarray, np.ndarray]:
    """[unit, step] sums and counts over the units of all checkpoints."""
    names = sorted({unit for one in parts for unit in one.units})
    place = {name: k for k, name in enumerate(names)}
    top, bottom = np.zeros((len(names), len(parts))), np.zeros((len(names), len(parts)))
    for step, one in enumerate(parts):
        rows = [place[unit] for unit in one.units]
        top[rows, step], bottom[rows, step] = one.sums.reshape(len(rows)), one.counts.reshape(len(rows))
    return top, bottom
