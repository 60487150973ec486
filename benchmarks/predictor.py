"""What training predictors costs: a step of five layers against the teacher alone, and what is written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import depthscope as ds
from benchmarks.paired import Ratio, paired
from depthscope.anatomy.anatomy import base_model
from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.predictor import chosen_layers
from depthscope.fits.predictor_course import Course
from depthscope.fits.predictor_sums import Scale
from depthscope.fits.predictor_training import Training
from depthscope.materials.window import Window
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import ROBUST, Predictor

ROWS, LENGTH = 8, 128


@dataclass(frozen=True)
class Written:
    """Bytes of a training's checkpoint, and what five layers of activations of the same tokens would take."""

    checkpoint: tuple[int, int]
    activations: tuple[int, int]

    def line(self) -> str:
        """One printed row."""
        grown = self.checkpoint[1] - self.checkpoint[0]
        more = self.activations[1] - self.activations[0]
        return f"bytes written for 4 steps more than 2: {grown:,} (their activations in float32: {more:,})"


def windows_of(model: Model) -> list[Window]:
    """Full windows of the packaged text."""
    windows = Reading(tokens=4 * ROWS * LENGTH, window=LENGTH).windows(model)
    return [w for w in windows.items if len(w.ids) == LENGTH]


def training(model: Model, folder: Path, steps: int) -> Training:
    """A training of five layers that has not begun; the scale is made up, as the cost does not depend on it."""
    states = [layer + 1 for layer in chosen_layers(model, ())]
    width = model.anatomy.d_model
    scale = {s: Scale(torch.zeros(width), torch.ones(width), 1.0, 1e9) for s in states}
    nets = {s: Predictor(ROBUST, width) for s in states}
    windows = windows_of(model)
    kept = Checkpoint(Journal(folder, "m", "d"), "training", {})
    course = Course(steps=steps, rows=ROWS, check=10**6, save=10**6)
    return Training(model, windows, windows[:1], course, nets, scale, kept, 0, _deaf, _deaf)


def _deaf(*_: int) -> None:
    """Nobody is told."""


def step(model: Model) -> Callable[[], object]:
    """One step: teacher, five predictors forward and backward, clipping and AdamW."""
    work = training(model, Path(tempfile.mkdtemp()), 10**6)
    work.descent = {s: work.course.descent(net) for s, net in work.nets.items()}
    work.sums = {s: torch.zeros(2, dtype=torch.float64) for s in work.nets}
    return work._step  # pyright: ignore[reportPrivateUsage]  (one step, without what stands around it)


def predictor(model: Model) -> list[Ratio]:
    """A step of five layers against the teacher alone, both of processor time; 8 x 128 tokens."""
    batch = Batch.of_ids([w.ids for w in windows_of(model)[:ROWS]])

    def forward() -> None:
        with torch.no_grad():
            base_model(model.net)(**batch.inputs, use_cache=False)

    name = "training step of five predictors / teacher forward"
    return [paired(name, forward, step(model), "<= 1.6", most=5, clock=time.process_time)]


def written(name: str) -> Written:
    """What a checkpoint takes after 2 steps and after 6."""
    model, sizes = ds.load(name, dtype="float32"), []
    for steps in (2, 6):
        folder = Path(tempfile.mkdtemp())
        training(model, folder, steps).run()
        sizes.append(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    each = ROWS * LENGTH * model.anatomy.d_model * 4 * len(chosen_layers(model, ()))
    return Written((sizes[0], sizes[1]), (2 * each, 6 * each))
