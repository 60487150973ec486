"""Iteration heads: does a model that works step by step look back at the input of each step?

Question: When a model writes out steps one by one, does a head's attention move along the inputs with the steps, does a
head find where the inputs end, and does the model need them?

Method: Sequences of a task word, L inputs, an end word and L steps are read, s_t made of s_{t-1} and x_t (copy, parity,
polynomial). For every head input_share is the share of the rows that predict s_t whose weight on x_t exceeds one half,
end_share the share of the rows that stand on a step whose weight on the end word does; input_weight and end_weight are
mean weights, input_same and end_same 1 minus the standard deviation of those weights over sequences of one length: 1
where a head goes by position alone. accuracy is teacher-forced, of whole sequences by their length (level); a model
that reads its own steps gets exactly as many right. Heads and MLPs are ablated one by one where there are few of them.
position_r2 says how well the number of a step can be read linearly from the stream there, on sequences that the reading
was not fitted on. With learned positions, shifted_weight is the weight on the input k places before when the end word
is given the position k places on. Units are sequences.

How to read: An iteration head has an input share near 1, a head before it an end share, accuracy is near 1 and falls
without either. Only the three together show it: networks that solve parity or copy by another circuit lose as much
without a head. A shifted weight near 1 says that steps are counted from the end word.

What misleads: A stripe of a model that does not do the task has another reason, such as copying tokens in order. One
half is a threshold: work may be split over heads that each stay below it. Where all sequences have one length a head
that looks a fixed distance back looks like an iteration head. A mean in a head's place leaves what does not
depend on the sequence.

Source: Cabannes et al. 2024, Iteration Head (arXiv 2406.02128); the shares are those of its code, the link to
free-running accuracy, the probe on held-out sequences and the moved end word are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.engine.attending import must_attend
from depthscope.engine.iteration_findings import Columns, found
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.iteration import IterationPrompts
from depthscope.materials.window import Window
from depthscope.ranges import at_least, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.edits import skip
from depthscope.runtime.head_ablation import Ablation, Kind, ablated, head_means
from depthscope.runtime.last_token import every_head
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.positions import moved_position, position_table
from depthscope.runtime.run import run

KINDS: tuple[Kind, ...] = ("zero", "uniform", "mean")
"""How heads are ablated."""
SHIFTS = (0, 1, 2)
"""By how many places the end word is moved."""
PROBED = (0, 1, 2)
"""States that the number of a step is read from; those that exist."""


@dataclass(frozen=True)
class IterationHeads:
    """Stripes of all heads on sequences that are worked through, and what the few of a small network do.

    Args:
        task, lengths, sequences, shots: see `materials.iteration.IterationPrompts`.
        few: heads are ablated one by one where the model has at most so many.
    """

    task: str = ""
    lengths: tuple[int, ...] = (4, 6, 8)
    sequences: int = 32
    shots: int = 3
    few: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, few=at_least(0, what="the most heads that are ablated"))
        self._material()

    def needs(self, anatomy: Anatomy) -> Needs:
        """Attention rows of the end word and of the steps."""
        must_attend(anatomy)
        if not anatomy.family.causal or not anatomy.has_unembedding():
            raise Refused("it is no causal language model, so it writes no steps")
        return Needs(
            frozenset({"L0.resid_pre", "L*.resid_post"}), own_queries=True, material=self._material()
        )

    def _material(self) -> IterationPrompts:
        return IterationPrompts(self.task, self.lengths, self.sequences, self.shots)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a sequence: weights of every head, what was right, what is right without a head, the stream."""
        del given
        longest, windows = max(w.about["length"] for w in _whole(seen)), seen.windows
        anatomy, length = model.anatomy, int(windows[0].about["length"])
        shape = (len(windows), anatomy.n_layers, anatomy.n_heads, longest)
        columns: dict[str, np.ndarray] = {name: np.full(shape, np.nan) for name in ("input", "end")}
        for layer in anatomy.attention_layers:
            rows = seen.pattern(layer)
            columns["input"][:, layer, :, :length] = _numbers(_on_inputs(rows, windows, 0))
            columns["end"][:, layer, :, :length] = _numbers(_on_end(rows, windows))
        right = np.full((len(windows), longest), np.nan)
        right[:, :length] = _right(model, seen.states[-1], windows)
        columns |= {"right": right, "stream": _on_steps(seen, windows, longest)}
        columns |= {
            "without": self._without(model.precise, batch, seen),
            "shifted": self._shifted(model, batch, windows),
        }
        columns |= {
            "length": np.full(len(windows), length),
            "unit": np.array([w.document for w in windows], dtype=str),
        }
        return Tally({"rows": Rows(np.array([w.index for w in windows], np.uint64), columns, 10**6)})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Shares and mean weights of heads, accuracies with and without them, probes."""
        rows: Columns = part(total, "rows", Rows).columns
        return found(rows, facts, KINDS, SHIFTS)

    def _without(self, model: Model, batch: Batch, seen: View) -> np.ndarray:
        """Whether a sequence is whole without a head, by kind, and without an MLP: [row, layer, head + 1, kind]."""
        anatomy, windows = model.anatomy, seen.windows
        gone = np.full((len(windows), anatomy.n_layers, anatomy.n_heads + 1, len(KINDS)), np.nan)
        heads = every_head(model)
        if len(heads) > self.few:
            return gone
        end = Site(anatomy.n_layers - 1, "resid_post")
        means = head_means(model, _batches(_whole(seen)))
        asked = [(pair, kind) for pair in heads for kind in range(len(KINDS))]
        conditions = [Ablation((pair,), KINDS[kind]) for pair, kind in asked]
        for k, after in ablated(model, batch, conditions, means=means):
            (layer, head), kind = asked[k]
            gone[:, layer, head, kind] = _right(model, after[end], windows).all(1)
        for layer in [x.index for x in anatomy.layers if x.mlp is not None]:
            after = run(model, batch, read=[end], edit=[skip(layer, "mlp")])
            gone[:, layer, -1, 0] = _right(model, after[end], windows).all(1)
        return gone

    def _shifted(self, model: Model, batch: Batch, windows: Sequence[Window]) -> np.ndarray:
        """Mean weight on x_{t-k} on steps t when the end word stands k places on: [row, layer, head, k]."""
        anatomy, about = model.anatomy, windows[0].about
        table, end = position_table(model), int(about["end"])
        found = np.full((len(windows), anatomy.n_layers, anatomy.n_heads, len(SHIFTS)), np.nan)
        if table is None or end + max(SHIFTS) >= len(table) or len({w.about["end"] for w in windows}) > 1:
            return found
        queries = torch.tensor(about["queries"])
        for k, by in enumerate(SHIFTS):
            moved = run(model, batch, edit=[moved_position(model, end, by, batch.length)], queries=queries)
            for layer in anatomy.attention_layers:
                weights = _numbers(_on_inputs(moved.pattern(layer), windows, by))[..., max(1, by) :]
                if weights.shape[-1]:
                    found[:, layer, :, k] = weights.mean(-1)
        return found


def _whole(seen: View) -> tuple[Window, ...]:
    return seen.windows if seen.whole is None else seen.whole.items


def _batches(windows: Sequence[Window]) -> list[Batch]:
    """The windows in batches of equal lengths."""
    sizes = sorted({len(w.ids) for w in windows})
    return [Batch.of_ids([w.ids for w in windows if len(w.ids) == size]) for size in sizes]


def _on_inputs(rows: Tensor, windows: Sequence[Window], by: int) -> Tensor:
    """Weight of the row that predicts s_t on x_{t-by}, [row head t]; 0 where there is no such input."""
    first = torch.tensor([w.about["first"] for w in windows], device=rows.device)
    length = int(windows[0].about["length"])
    steps = torch.arange(length, device=rows.device)
    keys = (first[:, None] + steps - by).clamp(min=0)
    picked = rows[:, :, :length].gather(-1, keys[:, None, :, None].expand(-1, rows.shape[1], -1, -1))[..., 0]
    return torch.where(steps >= by, picked, 0.0)


def _on_end(rows: Tensor, windows: Sequence[Window]) -> Tensor:
    """Weight of the row that stands on s_t on the end word, [row head t]."""
    length = int(windows[0].about["length"])
    end = torch.tensor([w.about["end"] for w in windows], device=rows.device)
    keys = end[:, None, None, None].expand(-1, rows.shape[1], length, 1)
    return rows[:, :, 1 : length + 1].gather(-1, keys)[..., 0]


def _right(model: Model, last: Tensor, windows: Sequence[Window]) -> np.ndarray:
    """Whether each step is the most likely token behind what stands before it, [row, t]."""
    found = []
    for row, window in enumerate(windows):
        end, length = window.about["end"], window.about["length"]
        said = model.head.logits(last[row, end : end + length]).argmax(-1).cpu().numpy()
        found.append(said == np.array(window.ids[end + 1 : end + 1 + length]))
    return np.array(found)


def _on_steps(seen: View, windows: Sequence[Window], longest: int) -> np.ndarray:
    """States on the steps, [row, t, state, d_model]."""
    states = [s for s in PROBED if s < len(seen.states)]
    found = np.full((len(windows), longest, len(states), seen.states.shape[-1]), np.nan, np.float32)
    for row, window in enumerate(windows):
        end, length = window.about["end"], window.about["length"]
        found[row, :length] = _numbers(seen.states[states, row, end + 1 : end + 1 + length].transpose(0, 1))
    return found


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
