"""Induction ablation: what the model loses without its induction heads.

Question: Does the model still predict what it has seen before when its induction heads, or the previous-token heads
that feed them, are taken out?

Method: The k heads with the highest induction_heads/induction, the k with the highest head_patterns/previous, and k
random other heads (several draws) are ablated together on fresh repeated blocks of random tokens, at all positions,
in float32. zero puts nothing in place of a head's output, mean its mean over the windows at hand, pattern_preserving
nothing too, while all later attention keeps the rows of the intact pass: what is left is the head's own write and
not what it does for others to look at. second_copy_loss_increase is the rise of the loss of the second copy,
first_copy_loss_increase that of the first, which no copying can help. On running text (mean ablation)
text_loss_increase is the rise of the loss, and in_context_score the mean loss around token 500 minus that around
token 50, or around the last and the first tenth of shorter windows.

How to read: Heads that carry the copying raise the second copy's loss and leave the first copy's alone. If
previous-token heads raise it more, the match is made by what they write. A large gap between zero and
pattern_preserving says that the head works through the attention of others.

What misleads: Other heads may take over, so no effect does not prove no role. Zero moves the stream off its usual
place; mean is the gentler removal. Heads were chosen on other blocks by the same scores, not by their effect. One
draw of random heads may hit an important one: the intervals are over blocks, not over draws.

Source: Olsson et al. 2022 (arXiv 2209.11895), ablations and in-context score; McDougall et al. 2023 (arXiv
2310.04625) on self-repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.attending import must_attend
from depthscope.engine.cell_sums import Cells, at_cell
from depthscope.engine.chosen_heads import drawn, possible, top
from depthscope.engine.measured import Axes, mean, part
from depthscope.engine.needs import Facts, Needs, SweepNeed
from depthscope.engine.next_tokens import losses
from depthscope.engine.tally import PerDocument, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.materials.repeats import Repeats
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head_ablation import Ablation, ablated, head_means
from depthscope.runtime.model import Batch, Model

MODES = ("zero", "mean", "pattern_preserving")
GROUPS = ("induction", "previous", "random")
RISES = ("first_copy_loss", "second_copy_loss", "text_loss")
"""Given as rises over the intact model on the same window."""
TEXT = ("text_loss", "in_context_score")
_WORDS = {
    "first_copy_loss": ("nats", "tokens of the first copy but its first"),
    "second_copy_loss": ("nats", "tokens of the second copy but its first"),
    "second_copy_accuracy": ("probability", "the right token is the most likely"),
    "text_loss": ("nats", "running text, mean ablation"),
    "in_context_score": ("nats", "loss late in a window minus loss early; running text, mean ablation"),
}
MEASURED = {**_WORDS, **{f"intact_{name}": row for name, row in _WORDS.items()}}
ABSENT = "there are not so many heads with a score, or no window of this kind"
NO_TEXT = "no running text was asked for"
SHARE = 0.5
"""Share of all heads that may go at most."""


@dataclass(frozen=True)
class InductionAblation:
    """Ablations of induction, previous-token and random heads.

    Args:
        sizes: how many heads go together. modes: kinds of ablation. draws: draws of random heads.
        length: tokens of the repeated block. examples: blocks. bos: see `materials.repeats`.
        texts, text_length, text: running text, ablated by the mean; 0 texts leaves it out.
    """

    sizes: tuple[int, ...] = (1, 3, 5, 10, 20)
    modes: tuple[str, ...] = MODES
    draws: int = 3
    length: int = 50
    examples: int = 8
    bos: str = "always"
    texts: int = 2
    text_length: int = 512
    text: str = ""

    def needs(self, anatomy: Anatomy) -> Needs:
        """Recorded windows, behind the scores of both kinds of heads."""
        must_attend(anatomy)
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: what comes again stands on both sides of a token")
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so the loss of an ablation cannot be measured")
        wrong = [mode for mode in self.modes if mode not in MODES]
        if wrong or not self.modes or min(self.sizes, default=0) < 1 or self.draws < 1 or self.length < 2:
            raise BadInput(
                f"modes={self.modes}, sizes={self.sizes}, draws={self.draws}, length={self.length}; modes are out of "
                f"{', '.join(MODES)}, numbers 1 or more, a block has 2 tokens or more"
            )
        material = Repeats(self.length, 0, self.examples, self.bos, self.texts, self.text_length, self.text)
        passes = len(self.sizes) * len(self.modes) * (2 + self.draws)
        sweep = SweepNeed((), (), 0, 1, replays=passes)
        return Needs(sweeps=frozenset({sweep}), after=("head_patterns", "induction_heads"), material=material)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Losses of each window, intact and under each ablation."""
        conditions = self._conditions(given, seen)
        cells, shape = list(conditions), (len(self.modes), len(GROUPS), len(self.sizes))
        found = Cells(seen.units, shape)
        intact = self._scores(seen, *losses(model, seen.states[-1], batch.ids))
        found.add_all({f"intact_{name}": values for name, values in intact.items()}, (0, 0, 0))
        passes = ablated(
            model,
            batch,
            [conditions[cell] for cell in cells],
            means=head_means(model, [batch]),
            clean=seen.seen,
        )
        for place, changed in passes:
            last = changed[model.anatomy.states()[-1]]
            scores = self._scores(seen, *losses(model, last, batch.ids))
            shown = {name: value - intact[name] if name in RISES else value for name, value in scores.items()}
            found.add_all(shown, cells[place][:3])
        return found.tally()

    def _conditions(self, given: Mapping[str, Result], seen: View) -> dict[tuple[int, ...], Ablation]:
        """(mode, group, size, draw) -> what is ablated; running text is ablated by the mean only."""
        induction = given["induction_heads"]["induction"].value
        chosen = {
            "induction": induction,
            "previous": np.where(np.isfinite(induction), given["head_patterns"]["previous"].value, np.nan),
        }
        sizes = possible(self.sizes, int(np.isfinite(induction).sum()), SHARE)
        best = {cell for score in chosen.values() for cell in top(score, max(sizes, default=0))}
        kinds = self.modes if any(w.about["kind"] == "repeat" for w in seen.windows) else ("mean",)
        found: dict[tuple[int, ...], Ablation] = {}
        for s, size in enumerate(sizes):
            for g, group in enumerate(GROUPS):
                draws = range(self.draws if group == "random" else 1)
                for draw in draws:
                    heads = (
                        drawn(induction, size, best, (seen.seed, size, draw))
                        if group == "random"
                        else top(chosen[group], size)
                    )
                    if len(heads) == size:
                        for mode in kinds:
                            cell = (self.modes.index(mode) if mode in self.modes else 0, g, s, draw)
                            found[cell] = Ablation(heads, mode)  # pyright: ignore[reportArgumentType]
        return found

    def _scores(self, seen: View, loss: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
        """What each row says, NaN where it is of the other kind."""
        repeats = np.array([w.about["kind"] == "repeat" for w in seen.windows])
        first, second = slice(1 - 2 * self.length, -self.length), slice(1 - self.length, None)
        early, late = context_windows(loss.shape[1] + 1)
        of_repeats = {
            "first_copy_loss": loss[:, first].mean(1) if repeats.any() else loss[:, 0],
            "second_copy_loss": loss[:, second].mean(1),
            "second_copy_accuracy": right[:, second].mean(1),
        }
        of_texts = {
            "text_loss": loss.mean(1),
            "in_context_score": loss[:, late].mean(1) - loss[:, early].mean(1),
        }
        return {
            **{name: np.where(repeats, values, np.nan) for name, values in of_repeats.items()},
            **{name: np.where(repeats, np.nan, values) for name, values in of_texts.items()},
        }

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """What goes with the heads, by kind of ablation, kind of heads and number."""
        axes: Axes = {"mode": np.array(self.modes), "criterion": np.array(GROUPS), "k": np.array(self.sizes)}
        found: list[Measurement] = []
        for name, (unit, note) in MEASURED.items():
            one = part(total, name, PerDocument) if name in total else self._nothing(name)
            if name.startswith("intact_"):
                one = at_cell(one, (0, 0, 0))
                missing = "" if one.counts.sum() else NO_TEXT
                found.append(mean(one, name, {}, unit, facts, note, missing))
                continue
            shown = f"{name}_increase" if name in RISES else name
            missing = ABSENT if (one.counts.sum(0) == 0).any() else ""
            of_text = name in TEXT
            if of_text:
                mode = self.modes.index("mean") if "mean" in self.modes else 0
                one = at_cell(one, (mode,))
            labels = {axis: names for axis, names in axes.items() if not (of_text and axis == "mode")}
            found.append(mean(one, shown, labels, unit, facts, note, missing))
        return Findings({m.name: m for m in found})

    def _nothing(self, name: str) -> PerDocument:
        """What no window contributed to, such as text where none was asked for."""
        shape = (1, len(self.modes), len(GROUPS), len(self.sizes))
        return PerDocument((name,), np.zeros(shape), np.zeros(shape, np.int64))


def context_windows(tokens: int) -> tuple[slice, slice]:
    """Early and late places among the losses of a window: tokens 40-59 and 490-509, or its first and last tenth."""
    if tokens >= 510:
        return slice(39, 59), slice(489, 509)
    tenth = max(1, (tokens - 1) // 10)
    return slice(0, tenth), slice(-tenth, None)
