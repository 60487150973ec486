"""Iteration transfer: whether a task of steps is learnt faster by a network that knows another one.

Question: Does a network whose heads already work through one task of steps learn another one faster than a network with
random weights, such as parity, which is hard to learn from scratch?

Method: Two networks of equal shape are trained on the same fresh sequences of the task, one from the weights of another
such network, one from random weights. At every checkpoint right is the share of whole sequences that are predicted, by
their number of inputs (level); first_step is the first checkpoint from which on at least nine tenths are. Units are
sequences. The checkpoints stay in the run folder.

How to read: Where the started network is right on long sequences and the other is not yet, what it had learnt carried
over. first_step says how many steps that saved; a missing one was never reached.

What misleads: Being right does not say how: parity of up to eight inputs is also solved by circuits without a head that
moves along with the steps. Look at the checkpoints with iteration_heads before calling it one. Short sequences are
learnt by heart. One training each is one draw, which intervals over sequences do not hold.

Source: Cabannes et al. 2024, Iteration Head (arXiv 2406.02128), parity after polynomial; the packaged network to start
from and the numbers of steps are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.engine.journal import Journal
from depthscope.engine.progress import Progress
from depthscope.errors import BadInput
from depthscope.fits.iteration import CARD, IterationTraining
from depthscope.fits.iteration_course import IterationCourse
from depthscope.fits.watch import Watch
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings
from depthscope.store.atomic import read_json

JUDGED = 256
"""Sequences of each length that a checkpoint is judged on."""
ENOUGH = 0.9
SCRATCH = "random weights"


@dataclass(frozen=True)
class IterationTransfer:
    """What is trained.

    Args:
        task: of both networks. start: the network whose weights the first one starts from, by name or folder.
        steps, rows, lr, every, longest: see `fits.iteration_course`; layers, heads, d_model must be those of `start`.
    """

    task: str = "parity"
    start: str = "iteration-polynomial"
    steps: int = 400
    rows: int = 256
    lr: float = 1e-3
    every: int = 50
    longest: int = 8
    layers: int = 2
    heads: int = 1
    d_model: int = 64

    def __post_init__(self) -> None:
        if not self.start:
            raise BadInput(
                "a network to start from is needed: a folder of another training, or iteration-polynomial"
            )
        self.course()

    def course(self) -> IterationCourse:
        """The course of both."""
        return IterationCourse(
            self.task, self.longest, (), self.layers, self.heads, self.d_model, self.steps, self.rows, self.lr,
            self.every,
        )  # fmt: skip

    def made(self) -> Mapping[str, Any]:
        """The networks, for the manifest."""
        return {
            "name": f"{self.task} after {Path(self.start).name} and from random weights", "n_layers": self.layers,
            "n_heads": self.heads, "d_model": self.d_model,
            "source": f"sequences of {self.task}, 1 to {self.longest} inputs",
        }  # fmt: skip

    def run(self, journal: Journal, seed: int, progress: Progress) -> Findings:
        """Train both; each goes on from its last checkpoint when the study was stopped."""
        place, found = journal.folder.parent.parent / "checkpoints", []
        names = {f"after {Path(self.start).name}": self.start, SCRATCH: ""}
        for turn, (name, start) in enumerate(names.items()):

            def tell(phase: str, done: int, total: int, turn: int = turn) -> None:
                del phase
                progress("train", turn * total + done, len(names) * total)

            training = IterationTraining(self.course(), seed, start)
            folder = training.run(place / name.replace(" ", "-"), watch=Watch(tell))
            learnt = read_json(folder / CARD)["learnt"]
            levels = [str(n) for n in range(1, self.longest + 1)]
            found.append([[learnt[str(s)][n] for n in levels] for s in self.course().saved()])
        return _findings(np.array(found), list(names), self.course().saved(), self.longest)


def _findings(right: np.ndarray, names: list[str], steps: tuple[int, ...], longest: int) -> Findings:
    """From shares [variant, step, level]."""
    from scipy.stats import binomtest

    flat = [binomtest(round(x * JUDGED), JUDGED).proportion_ci(method="wilson") for x in right.ravel()]
    low, high = (
        np.array([getattr(one, end) for one in flat]).reshape(right.shape) for end in ("low", "high")
    )
    axes = {"variant": np.array(names), "step": np.array(steps), "level": np.arange(1, longest + 1)}
    count = np.full(right.shape, JUDGED)
    note = "fresh sequences whose every step is predicted; Wilson's interval"
    first = np.full((len(names), longest), np.nan)
    for variant, level in np.ndindex(*first.shape):
        below = np.flatnonzero(right[variant, :, level] < ENOUGH)
        later = 0 if not len(below) else below[-1] + 1
        first[variant, level] = steps[later] if later < len(steps) else np.nan
    never = f"fewer than {ENOUGH:.0%} are right at the last step" if np.isnan(first).any() else ""
    by = {name: axes[name] for name in ("variant", "level")}
    said = f"first checkpoint from which on {ENOUGH:.0%} are right"
    made = [
        Measurement("right", axes, right, "probability", low, high, count, count, note),
        Measurement("first_step", by, first, "1", note=said, missing=never),
    ]
    return Findings({m.name: m for m in made})
