"""Predictor: the next position's state learned from the states so far, layer by layer.

Question: How much of a state could be known before its token was read?

Method: For every asked layer a small causal network reads the outputs h_0 .. h_t of that layer and predicts h_{t+1}; it
never sees token t + 1. All are trained on the same teacher pass, which stops at the highest of them and keeps nothing
on the disk. Preset "robust": one attention layer with rotary positions beside a linear path from h_t that starts as a
ridge regression, inputs standardised; "paper": the attention layer alone, on raw states. Beside it stand guesses in
closed form: the mean, the mean of each position, h_t itself, a table of tokens, ridge regressions from one and two
states, and two bounds that see token t + 1. All are judged on documents that none was fitted on.

How to read: r2 is the share of the variance that the predictor explains, by four definitions; "dim", about the mean of
each dimension, is the one to quote. gain is what it has over each guess in closed form, resampled with it. What is
above "ridge" needs more than the last state; what is below "token" and "ridge_token" is what the new token brings.

What misleads: R2 about a single number rewards knowing which dimensions are large: the mean alone can have 0.9 by
"element". One sink among the targets, or three dimensions with a large variance, can decide "dim"; restricted_r2 has
the rest. A predictor that was trained too little looks like a model that surprises itself: look at the learning curves.
Guesses in closed form saw fewer tokens than the predictor, the tables most of all.

Source: the decomposition of hidden states by causal self-prediction; Hoerl and Kennard 1970 (ridge regression);
Loshchilov and Hutter 2019 (AdamW); Su et al. 2021 (rotary positions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

import torch

from depthscope.engine.needs import parameters
from depthscope.engine.reading import Reading
from depthscope.engine.study import Work
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.predictor_baselines import Guesses
from depthscope.fits.predictor_course import COURSES, Course
from depthscope.fits.predictor_findings import Judged
from depthscope.fits.predictor_judge import Judge, Parts
from depthscope.fits.predictor_sums import Scale, Vocabulary, products, scales
from depthscope.fits.predictor_training import Point, Training
from depthscope.fits.teacher import drawn
from depthscope.materials.window import Window
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.result import Findings
from depthscope.runtime.lens_folder import model_card
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import PRESETS, Design, Predictor, Predictors, save_predictors

READER = Design(kind="linear", residual="none", bias=False)
"""Standardises inputs for the guesses in closed form, whatever the trained predictors read."""


@dataclass(frozen=True)
class PredictorFit:
    """Predictors of some layers of a model over a text, into the run folder of the study.

    The windows of the study are read; those shorter than `Reading.window` are left out. Learning curves and the final
    judgement use `judge` where it is given, and otherwise documents that were held out.

    Args:
        layers: the blocks whose outputs are predicted; empty means the first, quarter, half, three-quarter and last.
        preset: "robust" or "paper"; design, course: fields of `Design` and `Course` that replace the preset's.
        closed: tokens that the closed-form guesses are fitted on, the first ones of the training; an eighth of them
            says how large states are. table: tokens of the vocabulary that get a row of their own in the tables.
        held_out: share of the documents to judge on, without `judge`.
        evaluate, curve: tokens judged in the end, and at each point of the learning curves.
        judge: another text to judge on.

    Raises:
        UnknownName: for a preset, or a field that design or course do not have. BadInput: for values out of range.
    """

    layers: tuple[int, ...] = ()
    preset: str = "robust"
    design: Mapping[str, Any] = field(default_factory=dict)
    course: Mapping[str, Any] = field(default_factory=dict)
    closed: int = 65536
    table: int = 8192
    held_out: float = 0.1
    evaluate: int = 16384
    curve: int = 4096
    judge: InitVar[Reading | None] = None

    def __post_init__(self, judge: Reading | None) -> None:
        if self.preset not in PRESETS:
            raise UnknownName("preset", self.preset, PRESETS)
        for name, kind in (("design", Design), ("course", Course)):
            known = [f.name for f in fields(kind)]
            for key in getattr(self, name):
                if key not in known:
                    raise UnknownName(f"field of a predictor's {name}", key, known)
        check_ranges(
            self,
            closed=at_least(1),
            table=at_least(1),
            evaluate=at_least(1),
            curve=at_least(1),
            held_out=above(0, most=0.4),
        )
        object.__setattr__(self, "_judge", judge)
        _ = self.built, self.lesson

    @property
    def built(self) -> Design:
        """The design of every predictor."""
        return replace(PRESETS[self.preset], **self.design)

    @property
    def lesson(self) -> Course:
        """The course of the training."""
        return replace(COURSES[self.preset], **self.course)

    def depends(self) -> Mapping[str, Any]:
        """The text that is judged on, where it is one of its own."""
        given: Reading | None = getattr(self, "_judge", None)
        if given is None:
            return {}
        own = {k: v for k, v in asdict(given).items() if k not in ("text", "tokens")}
        said = hashlib.sha256(repr(given.text).encode()).hexdigest()[:16]
        return {"judge": {**own, "text": said}}

    def run(self, work: Work) -> Findings:
        """Closed-form guesses, training, judgement; predictors are left in the folder at every checkpoint.

        Raises:
            Refused: for models that do not read from left to right. BadInput: for layers that do not exist, or a text
            without a full window. NonFinite: for states or losses without finite numbers.
        """
        if not work.model.anatomy.family.causal:
            raise Refused(
                f"{work.model.name} sees both sides of a token; nothing is to be predicted from left to right"
            )
        states = tuple(layer + 1 for layer in chosen_layers(work.model, self.layers))
        parts = Parts.of(work, self.held_out, self.evaluate, getattr(self, "_judge", None))
        told = _Told(work, self._closed_tokens(parts))
        scale, guesses, vocabulary = self._closed(work, parts, states, told)
        nets = {s: self._net(work, s, scale[s], guesses[s]) for s in states}
        card = self._card(work, parts)
        curve = self._trained(work, parts, nets, scale, card)
        judge = Judge(work.model, scale, guesses, _readers(work.model, scale), nets, vocabulary)
        scores, nats = judge.scores(parts, self.lesson.rows, work.progress)
        judged = Judged(scores, nats, curve, parts, work.seed)
        done = {"step": curve[-1]["step"], "of": self.lesson.steps}
        card |= {"training": {**done, "curve": curve}, "quality": judged.card()}
        card["closed_form"] = {"penalties": {str(s - 1): dict(guesses[s].penalties) for s in states}}
        save_predictors(work.folder, Predictors(nets, card))
        for unfinished in work.journal.folder.glob(
            "*.safetensors"
        ):  # what a killed fit would have gone on from
            unfinished.unlink()
        return Findings(
            {m.name: m for m in judged.measurements()}, notes=tuple(self._notes(parts, curve[-1]["step"]))
        )

    def _closed_tokens(self, parts: Parts) -> int:
        return min(self.closed, len(parts.train) * parts.length)

    def _first(self, parts: Parts, tokens: int, seed: int) -> list[Window]:
        """The first windows of the training, at most one pass."""
        return list(drawn(parts.train, seed, 0, max(2, min(tokens // parts.length, len(parts.train)))))

    def _closed(
        self, work: Work, parts: Parts, states: tuple[int, ...], told: _Told
    ) -> tuple[dict[int, Scale], dict[int, Guesses], Vocabulary]:
        """Scales and guesses of each state, read once and kept until the fit is finished."""
        course, windows = self.lesson, self._first(parts, self.closed, work.seed)
        vocabulary = Vocabulary.of(work.model, windows, self.table)
        lesson = {name: getattr(course, name) for name in ("rows", "skip_first", "drop_sink")}
        about = {"states": list(states), "closed": self.closed, "table": self.table, **lesson}
        kept = Checkpoint(work.journal, "closed-form", {**about, **self.depends(), "held_out": self.held_out})
        if kept.load() is None:
            some = self._first(parts, self.closed // 8, work.seed)
            with torch.no_grad():
                scale = scales(work.model, some, states, course.rows, told)
                readers = _readers(work.model, scale)
                sums, back = products(work.model, windows, readers, scale, vocabulary, course, told)
                solved = {s: Guesses.of(sums.pop(s), back[s]) for s in states}
            _keep(kept, scale, solved)
        return (*_kept(kept, work.model, states), vocabulary)

    def _net(self, work: Work, state: int, scale: Scale, guesses: Guesses) -> Predictor:
        """An untrained predictor; its random numbers depend on seed and state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(work.seed * 1000 + state)
            net = Predictor(self.built, work.model.anatomy.d_model)
        net = net.to(work.model.device)
        net.standardise(scale.mean, scale.deviation, scale.unit)
        if net.path is not None and net.design.norm == "standard":
            with torch.no_grad():
                net.path.weight.copy_(guesses.tensors["ridge"][: net.width].T)
        return net

    def _trained(
        self,
        work: Work,
        parts: Parts,
        nets: dict[int, Predictor],
        scale: dict[int, Scale],
        card: dict[str, Any],
    ) -> list[Point]:
        about = {**parameters(self), **self.depends(), "seed": work.seed}
        count = max(1, min(self.curve // parts.length, len(parts.judged)))
        training = Training(
            work.model, parts.train, parts.judged[:: max(1, len(parts.judged) // count)][:count], self.lesson, nets,
            scale, Checkpoint(work.journal, "training", about), work.seed, partial(work.progress, "train"),
            partial(self._saved, work, nets, card),
        )  # fmt: skip
        return training.run()

    def _saved(self, work: Work, nets: dict[int, Predictor], card: dict[str, Any], step: int) -> None:
        save_predictors(
            work.folder, Predictors(nets, {**card, "training": {"step": step, "of": self.lesson.steps}})
        )

    def _card(self, work: Work, parts: Parts) -> dict[str, Any]:
        return {
            "model": model_card(work.model), "data": parts.about(work), "parameters": parameters(self),
            "preset": self.preset, "course": asdict(self.lesson), "seed": work.seed,
        }  # fmt: skip

    def _notes(self, parts: Parts, steps: int) -> list[str]:
        read = steps * self.lesson.rows * parts.length
        laps = steps * self.lesson.rows / len(parts.train)
        said = f"{steps} steps of {self.lesson.rows} windows of {parts.length} tokens: {read:,} tokens, "
        notes = [f"{said}{laps:.2f} passes over {len(parts.train)} windows."]
        notes.append(f"Guesses in closed form saw the first {self._closed_tokens(parts):,} of these tokens.")
        if steps < COURSES[self.preset].steps:
            notes.append(
                f"The preset asks for {COURSES[self.preset].steps:,} steps: R2 is what this training reached."
            )
        return notes


def chosen_layers(model: Model, asked: tuple[int, ...]) -> tuple[int, ...]:
    """The asked layers sorted, or the first, quarter, half, three-quarter and last one.

    Raises:
        BadInput: for layers that do not exist.
    """
    last = model.anatomy.n_layers - 1
    wrong = [layer for layer in asked if not 0 <= layer <= last]
    if wrong:
        raise BadInput(f"layers={asked}: {wrong} do not exist, {model.name} has layers 0 to {last}")
    spread = tuple(int(last * share / 4 + 0.5) for share in range(5))
    return tuple(sorted(set(asked or spread)))


class _Told:
    """Adds up the tokens that were read for the closed forms and says so."""

    def __init__(self, work: Work, total: int) -> None:
        self.work, self.total, self.done = work, total + total // 8, 0

    def __call__(self, tokens: int) -> None:
        self.done += tokens
        self.work.progress("closed form", min(self.done, self.total), self.total)


def _readers(model: Model, scale: Mapping[int, Scale]) -> dict[int, Predictor]:
    readers: dict[int, Predictor] = {}
    for s, each in scale.items():
        readers[s] = Predictor(READER, len(each.mean)).to(model.device)
        readers[s].standardise(each.mean, each.deviation, each.unit)
    return readers


def _keep(checkpoint: Checkpoint, scale: Mapping[int, Scale], guesses: Mapping[int, Guesses]) -> None:
    tensors = {
        f"{s} guess {name}": value for s, each in guesses.items() for name, value in each.tensors.items()
    }
    tensors |= {
        f"{s} {name}": getattr(each, name) for s, each in scale.items() for name in ("mean", "deviation")
    }
    notes = {
        str(s): {"unit": each.unit, "norm": each.norm, "penalties": dict(guesses[s].penalties)}
        for s, each in scale.items()
    }
    checkpoint.save(tensors, 0, notes)


def _kept(
    checkpoint: Checkpoint, model: Model, states: tuple[int, ...]
) -> tuple[dict[int, Scale], dict[int, Guesses]]:
    stored, notes = checkpoint.load(), checkpoint.notes()
    assert stored is not None
    tensors = {name: value.to(model.device) for name, value in stored[0].items()}
    scale, guesses = {}, {}
    for s in states:
        said, first = notes[str(s)], f"{s} guess "
        scale[s] = Scale(tensors[f"{s} mean"], tensors[f"{s} deviation"], said["unit"], said["norm"])
        own = {name.removeprefix(first): v for name, v in tensors.items() if name.startswith(first)}
        guesses[s] = Guesses(own, said["penalties"])
    return scale, guesses
