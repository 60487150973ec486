"""Tuned lens: each state translated so that it predicts what the model predicts in the end.

Question: What does each state already say about the model's own prediction?

Method: For every state s < L a residual affine map h + A_s h + b_s, trained so that its decoding by the model's
own head comes as close as possible to the model's output: the mean over positions of KL(final || state). Sinks are left
out. The masters are float32 whatever the model's type. Windows are drawn in an order given by a hash, pass after pass;
training ends after its steps, or when validation documents gain less than half a percent between two checks. KL is
then measured on documents held out from both.

How to read: A low KL at an early state says that the information is there and can be read linearly. The last state is
the model itself.

What misleads: A lens that is trained too little looks like a model that knows too little; compare it with the ridge
lens and look at the history in its card. Its text should resemble what the model was trained on.

Source: Belrose et al. 2023 (arXiv 2303.08112).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.errors import BadInput
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.descent import CLIPS, Adam, Sgd, Tensors
from depthscope.fits.goals import OBJECTIVES, REDUCED, TEACHERS, Aim, variants
from depthscope.fits.quality import judged
from depthscope.fits.ridge_lens import RidgeLens
from depthscope.fits.states import Split, split
from depthscope.fits.training import Course, Training
from depthscope.fits.watch import SILENT, Watch
from depthscope.materials.window import Windows
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.result import Result
from depthscope.runtime.lens import Lens
from depthscope.runtime.lens_folder import load_lens
from depthscope.runtime.model import Model

PRESETS = {"paper": (250, 2**18), "small": (250, 2**15), "ci": (50, 2**10)}
"""Steps, and tokens read a step."""
CHOICES = {
    "optimiser": ("sgd", "adam"), "clip": CLIPS, "objective": OBJECTIVES, "reduced": REDUCED, "teacher": TEACHERS,
}  # fmt: skip
"""What the settings that are words may be."""


@dataclass(frozen=True)
class TunedLens:
    """A tuned lens of a model over a text.

    Memory beyond the model: the masters, their gradient and its moments (3 times L d_model^2 float32, 5 times with
    Adam), as much again during a step, the states of one batch, and blocks of logits (see `runtime.lens_step`).

    Args:
        reading: the text; it is read again, pass after pass, where it is shorter than the training.
        preset: steps and tokens a step: "paper", "small" or "ci"; `steps` and `step_tokens` override it.
        positions_per_seq: positions trained on in each window, 0 for all: the vocabulary is most of the cost, so this
            is the main knob of speed.
        init: "zero" is the logit lens; "ridge" a ridge lens of the same training documents; "previous_layer" trains
            the states one after the other from the last to the first, each from the translator of the state above, at
            the cost of a forward pass for each; anything else is the folder of a lens.
        optimiser: "sgd" (Nesterov, rate 0.1) or "adam" (amsgrad, rate 0.001); `lr` overrides the rate.
        clip: gradients to norm 1 in each state by itself, over all states together, or not at all.
        objective, reduced, rho, tokens, teacher: see `goals.Aim`; `tokens` are words or ids.
        gain: relative gain between two checks below which training ends; 0 never ends it early.
        best: each state ends as it was at its best check. The checks know no reduced updates, so turn this off, and
            `gain` to 0, where a reduced lens is compared with a normal one.
        held_out: share of the documents to judge on, and as much again to validate. evaluate: positions to judge at.
    """

    reading: Reading = field(default_factory=lambda: Reading(tokens=2**18))
    preset: str = "small"
    steps: int = 0
    step_tokens: int = 0
    positions_per_seq: int = 0
    init: str = "zero"
    optimiser: str = "sgd"
    lr: float = 0.0
    clip: str = "per_layer"
    objective: str = "kl"
    reduced: str = "none"
    rho: float = 0.001
    tokens: tuple[str | int, ...] = ()
    teacher: str = "model"
    check: int = 25
    gain: float = 0.005
    validate: int = 128
    best: bool = True
    held_out: float = 0.1
    evaluate: int = 512
    seed: int = 0

    kind = "tuned"

    def __post_init__(self) -> None:
        check_names(self, preset=PRESETS, **CHOICES)
        check_ranges(
            self,
            steps=at_least(0),
            step_tokens=at_least(0),
            positions_per_seq=at_least(0),
            lr=at_least(0),
            gain=at_least(0),
            check=at_least(1),
        )

    def run(
        self, model: Model, journal: Journal, windows: Windows, watch: Watch = SILENT
    ) -> tuple[Lens, Result]:
        """Train from where it was stopped, and judge on held-out documents.

        Raises:
            NonFinite: when losses are repeatedly not finite.
        """
        parts = split(windows, self.held_out, self.seed)
        about = {name: value for name, value in asdict(self).items() if name not in ("reading", "evaluate")}
        start = self._start(model, parts, journal, watch)
        aim = self._aim(model)
        n_layers = model.anatomy.n_layers
        one_by_one = self.init == "previous_layer"
        groups = [(s,) for s in reversed(range(n_layers))] if one_by_one else [tuple(range(n_layers))]
        whole, facts = start, []
        for states in groups:
            above = states[0] + 1 if one_by_one and states[0] + 1 < n_layers else None
            own = {
                name: value[list(states) if above is None else [above]].clone()
                for name, value in whole.items()
            }
            checkpoint = Checkpoint(journal, "training", {**about, "states": list(states)})
            training = Training(model, parts, self._course(), aim, states, own, checkpoint, watch)
            facts.append({"states": list(states), **training.run()})
            for name, value in whole.items():
                value[list(states)] = own[name]
        lens = Lens("tuned", "tuned", whole["weight"].cpu(), whole["bias"].cpu(), {"fit": _told(facts, aim)})
        return lens, judged(self, model, lens, parts, self.evaluate, self.seed, watch)

    def _course(self) -> Course:
        steps, tokens = PRESETS[self.preset]
        each = max(1, (self.step_tokens or tokens) // self.reading.window)
        descent = Adam() if self.optimiser == "adam" else Sgd()
        if self.lr:
            descent = replace(descent, lr=self.lr)
        return Course(
            self.steps or steps, each, self.positions_per_seq, descent, self.clip, self.check, self.gain, self.validate,
            self.best, self.seed,
        )  # fmt: skip

    def _aim(self, model: Model) -> Aim:
        words = [token for token in self.tokens if isinstance(token, str)]
        ids = tuple(token for token in self.tokens if isinstance(token, int))
        ids += variants(model.tokenizer, words) if words else ()
        return Aim(self.objective, self.reduced, self.rho, ids, self.teacher, self.seed)

    def _start(self, model: Model, parts: Split, journal: Journal, watch: Watch) -> Tensors:
        """Masters before the first step, in float32 on the model's device."""
        n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
        if self.init in ("zero", "previous_layer"):
            shapes = {"weight": (n_layers, width, width), "bias": (n_layers, width)}
            return {name: torch.zeros(shape, device=model.device) for name, shape in shapes.items()}
        kept = Checkpoint(journal, "start", {"init": self.init, "held_out": self.held_out, "seed": self.seed})
        stored = kept.load()
        if stored is None:
            ridge = RidgeLens(self.reading, held_out=self.held_out, seed=self.seed)
            lens = (
                ridge.fitted(model, parts, journal, watch)
                if self.init == "ridge"
                else load_lens(self.init, model)
            )
            if lens.weight is None or lens.bias is None:
                raise BadInput(f"init={self.init!r} has no weights; 'zero' starts from the logit lens")
            kept.save({"weight": lens.weight, "bias": lens.bias}, 0)
            stored = kept.load()
        assert stored is not None
        return {name: _master(value, model) for name, value in stored[0].items()}


def _master(value: Tensor, model: Model) -> Tensor:
    return value.float().to(model.device)


def _told(facts: list[dict[str, Any]], aim: Aim) -> dict[str, Any]:
    """The trainings for the card, with the ids whose updates were reduced."""
    return {"trainings": facts, "reduced_ids": list(aim.ids)}
