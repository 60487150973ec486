"""Surgery on questions: what altering the middle layers leaves of the ability to choose the right option.

Question: How much of the ability to answer survives when the middle layers are left out, mixed up, or run side by
side?

Method: The plans of surgery run on questions with options. The model chooses the option with the highest logit at
the last position of the prompt. accuracy is the share of right choices; normalised is (accuracy - chance) / (intact
accuracy - chance), over the same questions, 1 for an intact ability and 0 for guessing, where chance is one over
the number of options. It is missing where the interval of the intact accuracy holds chance: what is not there
cannot be lost. Units are questions.

How to read: Compare normalised between tasks at equal `kept`: the task that falls first is the one that needs the
middle layers, or their order. A plan that keeps the loss low and loses a task has broken something that running
text hides.

What misleads: A choice among options is the most forgiving form of a task; answers that must be written fail
earlier. With few questions intervals are wide, and normalised is wider still where the intact model is little
better than chance.

Source: Sun et al. 2024, Transformer Layers as Painters (arXiv 2407.09298), normalised benchmark scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.cells import Items
from depthscope.engine.measured import Axes, part, ratio
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.replayed import must_reorder
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import View
from depthscope.materials.options import OptionPrompts
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.orders import ends, evaluations
from depthscope.runtime.surgery import PLANS, middles

WEAK = "the intact model is not above chance on this task, or no question was read"


@dataclass(frozen=True)
class SurgeryOptions:
    """Plans on the middle, on questions.

    Args:
        source: see `materials.questions`; "" is the packaged set. items: questions a task. shots: examples before each.
        kept: how many layers stay as they are; empty alters the central fifth, two and three fifths.
        longest: tokens of the longest prompt that is kept.
    """

    source: str = ""
    items: int = 32
    shots: int = 4
    kept: tuple[int, ...] = ()
    longest: int = 512

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded prompts; refused where layers may not move, and where nothing follows a prompt."""
        must_reorder(
            anatomy,
            "it has no unembedding, so it chooses no option",
            "it is no causal language model, so no option follows a prompt",
        )
        orders = [o for m in middles(anatomy.n_layers, self.kept).values() for o in m.plans().values()]
        need = SweepNeed((), (), 0, replays=-(-evaluations(orders) // anatomy.n_layers))
        prompts = OptionPrompts(self.source, self.items, self.shots, controls=False, longest=self.longest)
        return Needs(sweeps=frozenset({need}), material=prompts)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a question: whether each plan, and the intact model, choose the right option."""
        del batch, given
        widths = middles(model.anatomy.n_layers, self.kept)
        orders = [order for one in widths.values() for order in one.plans(seed=seen.seed).values()]
        hit = np.zeros((len(seen.windows), len(orders)))
        for place, stream in ends(seen.seen, orders):
            hit[:, place] = _right(seen, stream)
        about = [w.about for w in seen.windows]
        columns = {
            "hit": hit.reshape(len(hit), len(widths), len(PLANS)),
            "intact": _right(seen, seen.seen[model.anatomy.states()[-1]]),
            "chance": np.array([1 / len(a["candidates"]) for a in about]),
            "task": np.array([a["task"] for a in about], dtype=str),
            "unit": np.asarray(seen.units, dtype=str),
        }
        return Tally(
            {"questions": Rows(np.array([w.index for w in seen.windows], np.uint64), columns, 10**6)}
        )

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Accuracy of every plan by task, and what of the intact ability is left."""
        c = part(total, "questions", Rows).columns
        tasks = np.unique(c["task"])
        mine = np.where(c["task"][:, None] == tasks, 1.0, np.nan)
        items, by = Items(c["unit"], facts, 1, "questions"), {"task": tasks}
        kept = np.array(list(middles(facts.n_layers, self.kept)))
        axes: Axes = {"kept": kept, "variant": np.array(PLANS), **by}
        intact = items.mean(
            c["intact"][:, None] * mine, "intact_accuracy", by, "probability", "no layer altered"
        )
        chance = items.mean(
            c["chance"][:, None] * mine, "chance", by, "probability", "one over the number of options"
        )
        hit = c["hit"][..., None] * mine[:, None, None]
        above = (c["intact"] - c["chance"])[:, None] * mine
        top = PerDocument.of(c["unit"].tolist(), hit - c["chance"][:, None, None, None])
        bottom = PerDocument.of(c["unit"].tolist(), np.broadcast_to(above[:, None, None], hit.shape))
        assert intact.low is not None
        weak = ~(intact.low > chance.value)
        share = ratio(
            top,
            bottom,
            "normalised",
            axes,
            "1",
            facts,
            "1 is intact, 0 is guessing",
            WEAK if weak.any() else "",
        )
        parts = {x: np.where(weak, np.nan, getattr(share, x)) for x in ("value", "low", "high")}
        found = [
            items.mean(hit, "accuracy", axes, "probability", "option of the highest logit"),
            replace(share, missing=WEAK if np.isnan(parts["value"]).any() else "", **parts), intact, chance,
        ]  # fmt: skip
        return Findings({m.name: m for m in found})


def _right(seen: View, stream: Tensor) -> np.ndarray:
    """Whether the right option has the highest logit at the marked position of each row."""
    head = seen.seen.model.head
    found: list[float] = []
    for row, window in enumerate(seen.windows):
        ids = torch.tensor(window.about["candidates"], device=stream.device)
        logits = head.logits(stream[row, window.marks[0]], ids)
        found.append(float(int(logits.argmax()) == window.about["gold"]))
    return np.array(found)
