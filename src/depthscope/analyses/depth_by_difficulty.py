"""Depth by difficulty: whether harder problems use deeper layers.

Question: Do harder problems move the work of a model to deeper layers, or does every problem use the same depth?

Method: Problems of known difficulty (chains of sums, hops on a map, nested brackets, or rows with a level) are read
with their gold answers. Each layer is skipped in turn in one float32 sweep, sinks protected, and the effect e_l on
the answer's prediction is measured in a window of fixed length from the prompt's last position on. The depth score of
a problem is sum l e_l / sum e_l over layers from 0. Four effects: future_* skip before the prompt's last position
only, prompt_* skip that one too; *_output is the distance of the output probabilities, *_layers the mean relative
change of later layers' writes. settle and kl_half read the answer tokens through the run's lens: the states from
which the final top-1 stays, and the divergence from the final distribution stays below half of its largest. Scores
are regressed on the level with log prompt length and answer length beside it; levels need `fewest` problems. Units
are problems.

How to read: verdict is 1 (uses more depth) where the slope's interval lies above 0, 0 (no meaningful change) where
two one-sided tests keep the change over all levels within 2 % of the layers, -1 (uses less depth), and missing where
neither can be said. detectable_slope says how much could have been missed. Look at the answered problems first: what
a model cannot do it need not compute. future_output is the main score.

What misleads: A large p of a rank test is no proof of equal depth; only the equivalence test is. Length goes with
difficulty in most sets: slope_alone shows what it does. A score is a centre of mass: two problems with one score can
use different layers. Depth that is not used by level may still be used by tokens. Twelve verdicts are shown: one of
them may be chance.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898): depth scores by level of MATH and MQuAKE, without
a test; the statistics are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.cells import Items
from depthscope.engine.level_trends import KEPT, LevelTrends, told
from depthscope.engine.measured import layers, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.problems import Problems
from depthscope.measures.onset import stable_onset
from depthscope.measures.trend import depth_score
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.sweep import skip_variants, sweep

EFFECTS = ("future_output", "future_layers", "prompt_output", "prompt_layers")
SCORES = (*EFFECTS, "settle", "kl_half")
FLOOR = 3.0


@dataclass(frozen=True)
class DepthByDifficulty:
    """Depth scores by level.

    Args:
        source, levels, per_level, shots, columns, template: see `materials.problems.Problems`.
        reach: positions from the prompt's last one on at which effects are measured; longer answers are cut to it.
        fewest: problems that a level needs. margin: share of the layers that counts as no change over all levels.
        draws: permutations of the rank test.
    """

    source: str = "arithmetic"
    levels: tuple[int, ...] = ()
    per_level: int = 60
    shots: int = 2
    columns: str = "prompt,answer,level"
    template: str = "{}"
    reach: int = 16
    fewest: int = 50
    margin: float = 0.02
    draws: int = 10_000

    def __post_init__(self) -> None:
        check_ranges(
            self,
            margin=above(0, below=1, what="share of the layers"),
            fewest=at_least(2, what="problems of a level"),
            draws=at_least(1),
        )

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded windows of problems; one sweep of skips over each shard, run as it is observed."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so it answers no problem")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a problem")
        problems = Problems(
            self.source, self.levels, self.per_level, self.shots, self.columns, self.template, self.reach
        )
        need = SweepNeed((), tokens=0, replays=(anatomy.n_layers + 1) // 2)
        return Needs(sweeps=frozenset({need}), material=problems)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a problem: effects of every skip, settle and half-divergence state, and whether it is answered."""
        del batch, given
        about = [w.about for w in seen.windows]
        start, length, stop = (torch.tensor([a[key] for a in about]) for key in ("start", "length", "stop"))
        effects = _effects(model.precise, seen, start, length, self.reach)
        lens, right = _answers(seen, start, length, stop)
        right[[a["whole"] > a["length"] for a in about]] = np.nan
        columns = {
            "effects": effects, "lens": lens, "right": right, "start": start.numpy(), "length": length.numpy(),
            "level": np.array([a["level"] for a in about]), "unit": np.asarray(seen.units, dtype=str),
        }  # fmt: skip
        return Tally({"problems": Rows(np.array([w.index for w in seen.windows], np.uint64), columns, 10**6)})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Scores by level, the trend of each, and where effects lie."""
        c = part(total, "problems", Rows).columns
        scores = np.concatenate([depth_score(c["effects"]), c["lens"]], 1)
        trends = LevelTrends(
            SCORES, scores, c["level"], c["start"], c["length"], c["right"], c["unit"], facts, self.fewest,
            self.margin, self.draws,
        )  # fmt: skip
        found = {m.name: m for m in (*trends.measurements(), self._shares(c, trends, facts))}
        notes = [told(found, score, kept) for score in SCORES[:1] for kept in KEPT]
        return Findings(found, notes=(*notes, *_left_out(trends)))

    def _shares(self, c: Mapping[str, np.ndarray], trends: LevelTrends, facts: Facts) -> Measurement:
        """Share of each layer in a problem's effects, by level."""
        whole = c["effects"].sum(-1, keepdims=True)
        share = np.divide(c["effects"], whole, out=np.full(c["effects"].shape, np.nan), where=whole > 0)
        at = (c["level"][:, None] == trends.levels)[:, None, None, :]
        axes = {"score": np.asarray(EFFECTS), **layers(facts), "level": trends.levels}
        items = Items(c["unit"], facts, self.fewest, "problems")
        return items.mean(
            np.where(at, share[..., None], np.nan),
            "effect_share",
            axes,
            "1",
            "all problems; sums to 1 over layers",
        )


def _effects(model: Model, seen: View, start: Tensor, length: Tensor, reach: int) -> np.ndarray:
    """Effects of skipping each layer on the prediction of the answer, [problem, effect, layer]."""
    place = torch.arange(seen.seen.batch.length)
    first = (start - 1)[:, None]
    measured = (place >= first) & (place < first + length.clamp_max(reach)[:, None])
    at = seen.plain & (place < start[:, None]).to(seen.plain.device)
    found = sweep(
        seen.seen,
        skip_variants(model.anatomy),
        at,
        seen.plain & measured.to(at.device),
        splits=first,
        reach=reach,
    )
    now = (found.shift, found.changed, found.clean, found.positions, found.floor_shift, found.floor_changed)
    later = (
        found.future_shift, found.future_changed, found.future_clean, found.future_positions,
        found.future_floor_shift, found.future_floor_changed,
    )  # fmt: skip
    return np.concatenate([_reduced(*later), _reduced(*now)], 1)


def _reduced(
    shift: Tensor, changed: Tensor, clean: Tensor, positions: Tensor, floor: float, drift: Tensor
) -> np.ndarray:
    """Mean effect on the output, and mean relative effect on the layers behind, [problem, 2, layer]; NaN unmeasured."""
    output = (shift / positions.clamp_min(1)).numpy()
    relative = (changed / clean.clamp_min(1e-30)).numpy()
    depth = len(relative)
    output = np.where(output < FLOOR * floor, 0.0, output)
    relative = np.where(relative < FLOOR * drift.numpy()[:, None], 0.0, relative)
    behind = np.triu(np.ones((depth, depth)), 1)
    on_layers = (relative * behind[..., None]).sum(1) / np.maximum(behind.sum(1), 1)[:, None]
    both = np.stack([output, on_layers], 1).transpose(2, 1, 0)
    return np.where((positions > 0).numpy()[:, None, None], both, np.nan)


def _answers(seen: View, start: Tensor, length: Tensor, stop: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean settle and half-divergence state of answer tokens, [problem, 2], and whether greedy decoding answers.

    Greedy decoding gives it exactly where each of its tokens (and the line's end, where there is one) is the most
    likely one behind the gold tokens before it.
    """
    pairs = [
        (row, first + k)
        for row, (first, n) in enumerate(zip((start - 1).tolist(), (length + stop).tolist(), strict=True))
        for k in range(n)
    ]
    decoded = seen.decode(torch.tensor(pairs), Decode(top_k=1, kl=True, target=True))
    trace = decoded.trace
    assert trace.top_ids is not None
    assert trace.kl is not None
    ids = trace.top_ids[..., 0].T.cpu()
    kl = trace.kl.T.cpu()
    settle = stable_onset(ids == ids[:, -1:])
    half = stable_onset(kl <= kl.amax(1, keepdim=True) / 2)
    hit = ids[:, -1] == decoded.targets.cpu()
    row = np.array([r for r, _ in pairs])
    within = np.array([p for _, p in pairs]) < (start - 1 + length).numpy()[row]
    states = torch.stack([settle, half], 1).double().numpy()
    lens = np.stack([states[(row == r) & within].mean(0) for r in range(len(start))])
    right = np.array([float(hit.numpy()[row == r].all()) for r in range(len(start))])
    return lens, right


def _left_out(trends: LevelTrends) -> list[str]:
    """Which levels have too few problems, for all and for the answered ones."""
    found = []
    for k, kept in enumerate(KEPT):
        used = set(trends.level[trends.used(0, k)].tolist())
        few = [str(level) for level in trends.levels.tolist() if level not in used]
        if few:
            found.append(
                f"{kept.capitalize()} problems: level {', '.join(few)} left out, fewer than {trends.fewest} problems."
            )
    return found
