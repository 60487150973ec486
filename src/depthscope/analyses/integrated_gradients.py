"""Integrated gradients: which tokens carry the answer at each layer.

Question: At the output of each layer, and in what its mixer and its MLP write, how much does each token add to the
probability of the right answer?

Method: The target F is the summed probability of the gold answer tokens. One tensor of a prompt, the output of a block
or the write of its mixer or MLP, is moved on a straight line from a baseline to its value, at all positions together;
the layers above run again in float32. attribution of a token is the mean gradient on the way times the way, summed over
the width. Mode robust: sinks stay as they are, other positions start from the mean of those positions; middles of 32
steps, doubled until the sum of all tokens misses F(value) - F(baseline) by at most 2 % (of that difference, or of a
twentieth of F where the difference is smaller), at most `cap` steps. Mode paper: all positions start from the mean of
all of them, left ends of 256 steps. difference is F(value) - F(baseline), gap what the sum misses of it, incomplete the
share of prompts where that is too much. handover is the first layer from which on question tokens hold less than half
of the absolute attribution of a block's output. Units are prompts.

How to read: In early layers the question's tokens carry the answer, in late ones its last position. Where the share of
the question falls, what it says has been moved to where it is used. Negative values speak against the answer.

What misleads: All is relative to the baseline: what every position shares counts for nothing. A model that does not
know the answer has almost no F to explain: see gold_probability. An incomplete cell is not an attribution; routing to
other experts on the way makes jumps that no number of steps can add up.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898), integrated gradients; Sundararajan, Taly and Yan 2017 (arXiv
1703.01365); sinks held fixed, middles and the check of completeness are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy, Layer
from depthscope.anatomy.site import Site
from depthscope.engine.answers import GROUPS, Prompt, joined, tasks_of
from depthscope.engine.cells import Items, inside
from depthscope.engine.measured import layers, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.answered import AnsweredPrompts
from depthscope.measures.onset import stable_onset
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.path_gradient import (
    Attribution,
    attributed,
    by_left_ends,
    frozen,
    gold_target,
    part_of,
    rows_that_fit,
)

SUBLAYERS = ("attention", "block", "mlp")
TOLERANCE, FLOOR = 0.02, 0.05
STEPS, PAPER_STEPS, ROWS = 32, 256, 32
MAPS = 8
"""Prompts whose whole maps are kept as examples."""


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients of block outputs and writes of answered prompts.

    Args:
        source: see `materials.answered`; "" is the packaged handful. prompts: the most prompts; 0 reads all.
        longest: prompts of more tokens are left out. mode: "robust", or "paper" for the recipe of the source.
        sublayers: any of "block" (its output), "attention" (any mixer's write), "mlp" (its write).
        layers: which layers are explained; empty means all.
        steps: to begin with; 0 takes 32 (robust) or 256 (paper). cap: steps that are never exceeded (robust).
    """

    source: str = ""
    prompts: int = 4
    longest: int = 128
    mode: str = "robust"
    sublayers: tuple[str, ...] = SUBLAYERS
    layers: tuple[int, ...] = ()
    steps: int = 0
    cap: int = 512

    def __post_init__(self) -> None:
        check_names(self, mode=("robust", "paper"), sublayers=SUBLAYERS)
        check_ranges(self, steps=at_least(0), cap=at_least(max(1, self.steps)))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded prompts; every point of a path is a replay of one of them."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so there is no answer to explain")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a prompt")
        wrong = [k for k in self.layers if not 0 <= k < anatomy.n_layers]
        if wrong:
            raise Refused(f"layers {wrong} do not exist, it has layers 0 to {anatomy.n_layers - 1}")
        points = len(self.sublayers) * (self.steps or STEPS) * 3 // 2
        need = SweepNeed(tokens=0, documents=1, replays=points * len(self.layers or anatomy.layers))
        return Needs(
            sweeps=frozenset({need}), material=AnsweredPrompts(self.source, self.prompts, self.longest)
        )

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a position with its attributions, one a prompt with how complete they are."""
        del batch, given
        positions, prompts = [], []
        with frozen(model.net):
            for row in range(len(seen.windows)):
                prompt = Prompt.of(seen, row)
                tokens, cells = self._explained(prompt)
                positions.append(prompt.by_position(attribution=tokens))
                prompts.append(prompt.by_prompt(**cells))
        return Tally({"positions": joined(positions), "prompts": joined(prompts)})

    def _explained(self, prompt: Prompt) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Attributions [position, layer, sublayer], and difference, gap and steps [layer, sublayer]."""
        anatomy = prompt.seen.model.anatomy
        shape = (anatomy.n_layers, len(SUBLAYERS))
        tokens = np.full((len(prompt.window.ids), *shape), np.nan)
        cells = {name: np.full(shape, np.nan) for name in ("difference", "gap", "steps", "incomplete")}
        floor = FLOOR * prompt.answered()[0] * len(prompt.window.marks)
        for layer, place, sites in self._parts(anatomy):
            found = self._path(prompt, layer, sites, floor)
            tokens[:, layer, place] = found.tokens.cpu().numpy()
            allowed = TOLERANCE * max(abs(found.difference), floor)
            values = (found.difference, found.gap, found.steps, found.gap > allowed)
            for name, value in zip(cells, values, strict=True):
                cells[name][layer, place] = value
        return tokens, cells

    def _parts(self, anatomy: Anatomy) -> Iterator[tuple[int, int, tuple[Site, ...]]]:
        """Layer, place in SUBLAYERS, and the writes (none for the block's output) of all that is explained."""
        for layer in anatomy.layers:
            if self.layers and layer.index not in self.layers:
                continue
            for place, sublayer in enumerate(SUBLAYERS):
                sites = _writes(layer, sublayer) if not anatomy.family.post_norm else ()
                if sublayer in self.sublayers and (sites or sublayer == "block"):
                    yield layer.index, place, sites

    def _path(self, prompt: Prompt, layer: int, sites: tuple[Site, ...], floor: float) -> Attribution:
        seen, marks = prompt.seen, prompt.marks
        moved = part_of(seen, layer, sites)
        target = gold_target(seen, moved, marks, prompt.gold)
        rows = min(ROWS, rows_that_fit(seen, layer, len(marks)))
        if self.mode == "paper":
            baseline = moved.value.mean(0).expand_as(moved.value)
            return by_left_ends(target, moved.value, baseline, steps=self.steps or PAPER_STEPS, rows=rows)
        return attributed(
            target, moved.value, _baseline(moved.value, prompt.sinks), start=self.steps or STEPS, cap=self.cap,
            tolerance=TOLERANCE, floor=floor, rows=rows,
        )  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Attributions by layer and part of the prompt, how complete they are, and where they change places."""
        c = dict(part(total, "positions", Rows).columns)
        asked = dict(part(total, "prompts", Rows).columns)
        sums, sizes = _by_group(c, asked["window"])
        prompts = Items(asked["unit"], facts, 1, "prompts")
        axes = {**layers(facts), "sublayer": np.array(SUBLAYERS)}
        grouped = {**axes, "bucket": np.array(GROUPS)}
        with np.errstate(invalid="ignore", divide="ignore"):
            share = sizes / sizes.sum(-1, keepdims=True)
        found = [
            prompts.mean(sums, "attribution", grouped, "probability", "summed over the tokens of each part"),
            prompts.mean(share, "attribution_share", grouped, "probability", "of a prompt's absolute attributions"),
            prompts.mean(asked["difference"], "difference", axes, "probability", "target at the value minus baseline"),
            prompts.mean(asked["gap"], "gap", axes, "probability", "what the sum of attributions misses of difference"),
            prompts.mean(asked["incomplete"], "incomplete", axes, "probability", "share of prompts that miss over 2 %"),
            prompts.mean(asked["steps"], "steps", axes, "1", "points on the path"),
            *_by_task(asked, share[:, :, SUBLAYERS.index("block")], facts),
        ]  # fmt: skip
        return Findings({m.name: m for m in found}, {"maps": _maps(c, asked)}, notes=_warned(asked))


def _writes(layer: Layer, sublayer: str) -> tuple[Site, ...]:
    if sublayer == "attention":
        return tuple(Site(layer.index, part) for part, _ in layer.mixers())  # pyright: ignore[reportArgumentType]
    return (Site(layer.index, "mlp_out"),) if sublayer == "mlp" and layer.mlp is not None else ()


def _baseline(value: Tensor, sinks: Tensor) -> Tensor:
    """The mean of the positions that are no sinks, at each of them; sinks keep their value."""
    plain = ~sinks
    mean = value[plain].mean(0) if bool(plain.any()) else value.mean(0)
    return torch.where(plain[:, None], mean, value)


def _by_group(c: Mapping[str, np.ndarray], window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of attributions and of their sizes, [prompt, layer, sublayer, group]; 0 where a prompt lacks a group."""
    sums, sizes = [], []
    for own in window.tolist():
        at = c["window"] == own
        groups = c["group"][at][:, None] == np.arange(len(GROUPS))
        values = c["attribution"][at][..., None]
        chosen = groups[:, None, None, :]
        sums.append(np.where(chosen, values, 0.0).sum(0) + 0 * values.sum(0))
        sizes.append(np.where(chosen, np.abs(values), 0.0).sum(0) + 0 * values.sum(0))
    return np.stack(sums), np.stack(sizes)


def _by_task(asked: Mapping[str, np.ndarray], share: np.ndarray, facts: Facts) -> list[Measurement]:
    """Where the question hands over, and how well the model answers, by task."""
    tasks, inside_task = tasks_of(asked["task"])
    prompts = Items(asked["unit"], facts, 1, "prompts")
    question = share[..., GROUPS.index("question")]
    handover = _handover(question, facts.n_layers)
    axes = {"task": tasks}
    note = f"layer index; {facts.n_layers} where the question keeps half to the end"
    likely = "mean over the gold tokens"
    return [
        prompts.mean(inside(handover, inside_task), "handover", axes, "1", note),
        prompts.mean(inside(asked["right"], inside_task), "accuracy", axes, "probability", "all gold tokens on top"),
        prompts.mean(inside(asked["gold_probability"], inside_task), "gold_probability", axes, "probability", likely),
    ]  # fmt: skip


def _handover(question: np.ndarray, n_layers: int) -> np.ndarray:
    """First explained layer from which on the share of the question [prompt, layer] stays below one half."""
    explained = np.flatnonzero(np.isfinite(question).any(0))
    if not len(explained):
        return np.full(len(question), np.nan)
    held = question[:, explained]
    first = stable_onset(torch.from_numpy(held < 0.5)).numpy()
    return np.where(np.isfinite(held).all(1), np.append(explained, n_layers)[first], np.nan)


def _warned(asked: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    bad = asked["incomplete"] == 1
    if not bad.any():
        return ()
    cells = int(np.isfinite(asked["incomplete"]).sum())
    return (
        f"{int(bad.sum())} of {cells} paths are incomplete: their sums miss the difference by more than 2 %.",
    )


def _maps(c: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]) -> Table:
    """Whole maps of the first prompts, one row for each position, layer and sublayer that was explained."""
    chosen = np.flatnonzero(c["window"] < MAPS)
    values = c["attribution"][chosen]
    at, layer, sublayer = np.nonzero(np.isfinite(values))
    place = {w: k for k, w in enumerate(asked["window"].tolist())}
    prompt = np.array([place[w] for w in c["window"][chosen[at]].tolist()], dtype=np.int64)
    columns = {name: c[name][chosen[at]] for name in ("window", "position", "token", "task")}
    return Table(
        {
            **columns,
            "asked": asked["asked"][prompt],
            "part": np.array(GROUPS)[c["group"][chosen[at]]],
            "layer": layer,
            "sublayer": np.array(SUBLAYERS)[sublayer],
            "attribution": values[at, layer, sublayer],
            "incomplete": asked["incomplete"][prompt, layer, sublayer] == 1,
        },
        "a row is one token of one tensor; window is the prompt's number",
        {"attribution": "probability"},
    )
