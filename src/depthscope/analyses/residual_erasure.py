"""Residual erasure: until which depth the answer needs each token of its prompt.

Question: If what one position holds is wiped out at one depth, does the answer change, and from which depth on does it
no longer matter?

Method: For every state s and position t of a prompt with a gold answer, the state h_s[t] is replaced by the mean of
that state over the material, and the model goes on from there, in float32. The effect at an answer position is the
distance ||p - p'||_2 of the predicted distributions, and KL(p || p') in nats. Mode robust takes its mean over the
answer positions from t on, and leaves sinks out of the mean state; mode paper takes the largest, and counts all
positions in. last_needed of a position is the last state with at least a tenth of that position's largest effect;
point_of_no_return is the same of the mean effect of a prompt's question tokens. operand_order is the rank correlation
of last_needed with the place of a number among the numbers of its prompt. Units are prompts.

How to read: Where the effect of question tokens falls to nothing, what they say has moved on to other positions, or is
no longer asked for. A model that works through a chain step by step would need later numbers until larger depths.

What misleads: The mean of a state is still a state: what many positions share survives. Erasing a sink breaks all
heads that rest on it, whatever it says; sinks are a part of their own. A map of a prompt that the model does not answer
is a map of its guess: see accuracy and gold_probability. An effect of zero late in depth says that other positions have
read the token already, not that it was never needed.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898), residual erasure; read-outs and robust mode are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.answers import GROUPS, Prompt, joined, tasks_of
from depthscope.engine.cells import Items, inside
from depthscope.engine.measured import part, states
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.state_means import state_means
from depthscope.engine.tally import Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.answered import AnsweredPrompts
from depthscope.measures.distribution import kl, probability_distance
from depthscope.measures.needed import last_needed
from depthscope.ranges import check_names
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.erasure import erased_ends
from depthscope.runtime.model import Batch, Model

FLOOR = 3.0
CHAINS = 3
"""Prompts of 3 numbers or more that a rank correlation needs."""
MAPS = 8
"""Prompts whose whole maps are kept as examples."""


@dataclass(frozen=True)
class ResidualErasure:
    """Erasure of every state of every position of answered prompts.

    Args:
        source: see `materials.answered`; "" is the packaged handful. prompts: the most prompts; 0 reads all.
        longest: prompts of more tokens are left out. mode: "robust", or "paper" for the recipe of the source.
    """

    source: str = ""
    prompts: int = 10
    longest: int = 128
    mode: str = "robust"

    def __post_init__(self) -> None:
        check_names(self, mode=("robust", "paper"))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded prompts; every erasure is a replay of one of them."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so an erasure has no effect on an answer")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model, so no answer follows a prompt")
        # a window of T tokens is run T times over half of the layers from each state on
        replays = SweepNeed(tokens=0, documents=1, replays=anatomy.n_layers * 10)
        material = AnsweredPrompts(self.source, self.prompts, self.longest)
        return Needs(sweeps=frozenset({replays}), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a position with its effects by state, one a prompt, and the noise floor."""
        del batch, given
        assert seen.whole is not None
        means = state_means(model, seen.whole, sinks=self.mode == "paper")
        positions, prompts, floors = [], [], []
        for row in range(len(seen.windows)):
            prompt = Prompt.of(seen, row)
            found, floor = _erased(prompt, means, largest=self.mode == "paper")
            positions.append(prompt.by_position(**found))
            prompts.append(prompt.by_prompt())
            floors.append(floor)
        noise = Sum(np.sum(floors, 0), np.full(2, len(floors), np.int64))
        return Tally({"positions": joined(positions), "prompts": joined(prompts), "floor": noise})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Effects by state and part of the prompt, and how deep each part is needed."""
        floor = part(total, "floor", Sum)
        level = floor.total / np.maximum(floor.count, 1)
        c = dict(part(total, "positions", Rows).columns)
        for name, noise in zip(("effect", "kl"), FLOOR * level, strict=True):
            c[name] = np.where(c[name] < noise, 0.0, c[name])
        c["needed"] = last_needed(torch.from_numpy(c["effect"])).numpy()
        asked = part(total, "prompts", Rows).columns
        found = [
            *_curves(c, facts, self.mode),
            *_depths(c, asked, facts),
            Measurement(
                "noise_floor", {}, np.asarray(level[1]), "nats", note="KL of the clean pass against itself"
            ),
        ]
        return Findings({m.name: m for m in found}, {"maps": _maps(c, asked)})


def _erased(
    prompt: Prompt, means: Float[Tensor, "state d_model"], largest: bool
) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Effects of one prompt, [position, state] each, and the mean distance and KL of the riding clean streams."""
    model, marks = prompt.seen.model, prompt.marks
    length, depth = len(prompt.window.ids), len(means)
    everywhere = torch.arange(length, device=marks.device)
    clean = model.head.logits(prompt.seen[model.anatomy.states()[-1]][0, marks])
    found = {name: np.zeros((length, depth)) for name in ("effect", "kl")}
    floors: list[tuple[float, float]] = []
    for state in range(depth):
        for erased, ends in erased_ends(prompt.seen, state, means[state], everywhere, marks):
            logits = model.head.logits(ends)
            floors.append(tuple(float(v.mean()) for v in _apart(clean[None], logits[:1])))  # pyright: ignore[reportArgumentType]
            reached = marks[None] >= erased[:, None]
            for name, values in zip(found, _apart(logits[:1], logits[1:]), strict=True):
                found[name][erased.cpu(), state] = _reduced(values, reached, largest).cpu().numpy()
    return found, tuple(np.mean(floors, 0))


def _apart(
    clean: Float[Tensor, "1 mark vocab"], other: Float[Tensor, "row mark vocab"]
) -> Iterator[Float[Tensor, "row mark"]]:
    """Distance of the distributions, and KL(clean || other) in nats."""
    clean = clean.expand_as(other)
    yield probability_distance(clean, other)
    yield kl(clean, other)


def _reduced(values: Float[Tensor, "row mark"], reached: Tensor, largest: bool) -> Float[Tensor, " row"]:
    """Mean, or largest, over the answer positions that an erasure can reach."""
    values = torch.where(reached, values.double(), 0.0)
    return values.amax(-1) if largest else values.sum(-1) / reached.sum(-1)


def _curves(c: Mapping[str, np.ndarray], facts: Facts, mode: str) -> list[Measurement]:
    """Mean effects over positions, by state and by part of the prompt."""
    items = Items(c["unit"], facts, 1, "prompts")
    groups = c["group"][:, None] == np.arange(len(GROUPS))
    axes = {**states(facts), "bucket": np.array(GROUPS)}
    said = "largest" if mode == "paper" else "mean"
    note = f"{said} over the answer positions from the erased one on; values below 3 x noise floor are 0"
    return [
        items.mean(inside(c["effect"], groups), "effect", axes, "probability", note),
        items.mean(inside(c["kl"], groups), "kl", axes, "nats", note),
    ]


def _depths(c: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray], facts: Facts) -> list[Measurement]:
    """How deep parts of the prompt are needed, by task, and how well the model answers."""
    names, inside_task = tasks_of(c["task"])
    tasks, asked_task = tasks_of(asked["task"])
    items, prompts = (Items(unit, facts, 1, "prompts") for unit in (c["unit"], asked["unit"]))
    chains = Items(asked["unit"], facts, CHAINS, "prompts of 3 numbers")
    groups = c["group"][:, None] == np.arange(len(GROUPS))
    needed = inside(inside(c["needed"], inside_task), groups)
    note = f"state index, 0 to {facts.n_layers}; the last state with a tenth of the largest effect"
    ends, order = (np.array([f(c, w) for w in asked["window"].tolist()]) for f in (_no_return, _order))
    axes = {"task": names}
    assert list(names) == list(tasks)
    later, likely = (
        "rank correlation; prompts of 3 or more numbers, sinks left out; 0 where all are needed equally deep",
        "mean over the gold tokens",
    )
    return [
        items.mean(needed, "last_needed", {**axes, "bucket": np.array(GROUPS)}, "1", note),
        prompts.mean(inside(ends, asked_task), "point_of_no_return", axes, "1", note),
        chains.mean(inside(order, asked_task), "operand_order", axes, "1", later),
        prompts.mean(inside(asked["right"], asked_task), "accuracy", axes, "probability", "all gold tokens on top"),
        prompts.mean(inside(asked["gold_probability"], asked_task), "gold_probability", axes, "probability", likely),
    ]  # fmt: skip


def _no_return(c: Mapping[str, np.ndarray], window: int) -> float:
    """Last state at which the question tokens of one prompt are needed; NaN where none ever is."""
    effect = c["effect"][(c["window"] == window) & (c["group"] == 0)]
    return float(last_needed(torch.from_numpy(effect.mean(0)))) if len(effect) else np.nan


def _order(c: Mapping[str, np.ndarray], window: int) -> float:
    """Rank correlation of a number's place with how deep it is needed, 0 where all are alike; NaN below 3 numbers."""
    from scipy.stats import rankdata

    chosen = (c["window"] == window) & (c["operand"] >= 0) & (c["group"] == 0) & np.isfinite(c["needed"])
    place, needed = c["operand"][chosen], c["needed"][chosen]
    numbers = np.unique(place)
    deepest = np.array([needed[place == k].max() for k in numbers])
    if len(numbers) < 3:
        return np.nan
    if np.ptp(deepest) == 0:
        return 0.0
    return float(np.corrcoef(numbers, rankdata(deepest))[0, 1])


def _maps(c: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]) -> Table:
    """Whole maps of the first prompts, one row for each position and state."""
    chosen = np.flatnonzero(c["window"] < MAPS)
    depth = c["effect"].shape[1]
    title = dict(zip(asked["window"].tolist(), asked["asked"].tolist(), strict=True))
    columns = {name: np.repeat(c[name][chosen], depth) for name in ("window", "position", "token", "task")}
    columns["asked"] = np.array([title[w] for w in columns["window"].tolist()], dtype=str)
    columns["part"] = np.repeat(np.array(GROUPS)[c["group"][chosen]], depth)
    columns["state"] = np.tile(np.arange(depth), len(chosen))
    values = {name: c[name][chosen].ravel() for name in ("effect", "kl")}
    note = "a row is one erased state of one position; window is the prompt's number"
    return Table({**columns, **values}, note, {"effect": "probability", "kl": "nats"})
