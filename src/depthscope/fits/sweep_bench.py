"""The bench of a predictor sweep: one text read once, one design after the other, and what is kept to compare them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.study import Work
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.predictor import chosen_layers
from depthscope.fits.predictor_course import Course
from depthscope.fits.predictor_judge import SINK, Parts
from depthscope.fits.predictor_scores import Scores
from depthscope.fits.predictor_sums import Scale, scales
from depthscope.fits.predictor_training import Training
from depthscope.fits.sweep_findings import AGAIN
from depthscope.fits.sweep_probes import Probing
from depthscope.fits.sweep_ridge import solve
from depthscope.fits.teacher import Streams, batched, drawn, taught
from depthscope.materials.window import Window
from depthscope.measures.predictability import DEFINITIONS
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Design, Predictor
from depthscope.store.atomic import make_folder, write_bytes

SCALED = 8192
"""Tokens that say how large states are."""
APART = 8
"""Positions of a window at which designs are compared; neighbours are alike."""


@dataclass(frozen=True)
class Compared:
    """On what designs are judged and compared.

    Args:
        layers: see `PredictorSweep`. held_out, evaluate, compared, probed, source: the same. memory: bytes of streams
            that are kept.
    """

    layers: tuple[int, ...]
    held_out: float
    evaluate: int
    compared: int
    memory: int
    probed: int = 0
    source: str = ""


class Remembering:
    """Streams of windows, kept while they fit into some bytes; called as a training calls its teacher."""

    def __init__(self, model: Model, states: Sequence[int], memory: int) -> None:
        self.model, self.states, self.left = model, tuple(states), memory
        self.stored: dict[int, dict[int, Tensor]] = {}

    def __call__(self, model: Model, windows: Sequence[Window], states: Sequence[int]) -> Streams:
        """The streams of some windows of one length."""
        del model, states
        return self.streams(windows)

    def streams(self, windows: Sequence[Window]) -> Streams:
        """The same for the model and states of the sweep."""
        missing = list({w.index: w for w in windows if w.index not in self.stored}.values())
        if not missing:
            of = {s: torch.stack([self.stored[w.index][s] for w in windows]) for s in self.states}
            ids = torch.tensor([w.ids for w in windows]).to(self.model.device)
            return Streams(tuple(windows), ids, of)
        size = 4 * len(self.states) * len(windows[0].ids) * self.model.anatomy.d_model
        if self.left < size * len(missing):
            return taught(self.model, windows, self.states)
        found = taught(self.model, missing, self.states)
        for k, w in enumerate(missing):
            self.stored[w.index] = {s: found.of[s][k].clone() for s in self.states}
        self.left -= size * len(missing)
        return self.streams(windows)


@dataclass(frozen=True, eq=False)
class Bench:
    """What all designs of one sweep share.

    Args:
        parts: windows to learn from and to judge on. asked: designs by name, the base first. scale: of each state.
    """

    work: Work
    course: Course
    how: Compared
    parts: Parts
    states: tuple[int, ...]
    asked: dict[str, Design]
    teach: Remembering
    scale: dict[int, Scale]
    probing: Probing | None = None

    @classmethod
    def of(cls, work: Work, asked: Mapping[str, Design], course: Course, how: Compared) -> Bench:
        """The designs and the base once more under AGAIN; the sizes of states from the first windows."""
        last = work.model.anatomy.n_layers - 1
        states = tuple(s + 1 for s in chosen_layers(work.model, how.layers or (0, (last + 1) // 2, last)))
        parts = Parts.of(work, how.held_out, how.evaluate, None)
        teach = Remembering(work.model, states, how.memory)
        some = list(drawn(parts.train, work.seed, 0, max(2, min(len(parts.train), SCALED // parts.length))))
        with torch.no_grad():
            scale = scales(work.model, some, states, course.rows, _say_nothing)
        every = {**asked, AGAIN: next(iter(asked.values()))}
        probing = None
        if how.probed:
            probing = Probing.of(work.model, how.source, how.probed, parts.length, work.seed)
        return cls(work, course, how, parts, states, every, teach, scale, probing)

    @property
    def windows(self) -> list[Window]:
        """What every design learns from, in order."""
        return list(drawn(self.parts.train, self.work.seed, 0, self.course.steps * self.course.rows))

    @property
    def compared(self) -> tuple[Window, ...]:
        """Judged windows at whose last positions designs are compared."""
        return self.parts.judged[: max(2, -(-self.how.compared // self.each))]

    @property
    def each(self) -> int:
        """Positions of a window that are compared, spread evenly: neighbours are alike."""
        return min(APART, self.parts.length // 2)

    @property
    def units(self) -> np.ndarray:
        """The unit of each compared item."""
        return np.repeat(np.asarray(self.parts.units[: len(self.compared)]), self.each)

    def about(self, name: str) -> dict[str, Any]:
        """What a design's step depends on."""
        how = {key: value for key, value in asdict(self.how).items() if key not in ("layers", "memory")}
        return {
            "name": name, "design": asdict(self.asked[name]), "states": list(self.states), "seed": self.work.seed,
            "course": asdict(self.course), **how,
        }  # fmt: skip

    def file(self, name: str) -> Path:
        """Where a design's expectations and novelties are kept."""
        return self.work.journal.folder / f"{self.work.journal.key('kept', self.about(name))}.safetensors"

    def step(self, name: str, design: Design) -> Any:  # noqa: ANN401  (JSON)
        """Train (or solve), judge and keep what is compared."""

        def compute() -> dict[str, Any]:
            begun = time.perf_counter()
            nets = self._nets(design, self.work.seed + (name == AGAIN))
            if design.kind == "linear":
                solve(nets, self.scale, self.windows, self.course, self.teach.streams)
            else:
                self._train(name, nets)
            found = self._judged(nets)
            self._keep(name, nets)
            count = sum(p.numel() for p in next(iter(nets.values())).parameters())
            return {**found, "parameters": count, "seconds": round(time.perf_counter() - begun, 2)}

        return self.work.journal.step("design", self.about(name), compute)

    def _nets(self, design: Design, seed: int) -> dict[int, Predictor]:
        nets: dict[int, Predictor] = {}
        for s in self.states:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed * 1000 + s)
                net = Predictor(design, self.work.model.anatomy.d_model).to(self.work.model.device)
            each = self.scale[s]
            net.standardise(each.mean, each.deviation, each.unit)
            nets[s] = net
        return nets

    def _train(self, name: str, nets: dict[int, Predictor]) -> None:
        checkpoint = Checkpoint(self.work.journal, "training", self.about(name))
        training = Training(
            self.work.model, self.parts.train, self.parts.judged[:2], self.course, nets, self.scale, checkpoint,
            self.work.seed + (name == AGAIN), partial(self.work.progress, name), _say_nothing, self.teach,
        )  # fmt: skip
        training.run()
        checkpoint.drop()

    @torch.no_grad()
    def _judged(self, nets: Mapping[int, Predictor]) -> dict[str, Any]:
        names = sorted(set(self.parts.units))
        numbers = torch.tensor([names.index(u) for u in self.parts.units], device=self.work.model.device)
        scores, done = {s: Scores() for s in nets}, 0
        for batch in batched(self.parts.judged, self.course.rows):
            found = self.teach.streams(batch)
            for s, net in nets.items():
                h = found.of[s][:, 1:]
                sink = torch.linalg.vector_norm(h, dim=-1) > SINK * self.scale[s].norm
                guess = {"predictor": net(found.of[s])[:, :-1]}
                scores[s].add(h, guess, sink, numbers[done : done + len(batch)], len(names))
            done += len(batch)
        return {
            "r2": {str(s - 1): [x.r2("predictor", "all", d) for d in DEFINITIONS] for s, x in scores.items()},
            "draws": {
                str(s - 1): x.draws("predictor", "dim", self.work.seed).round(6).tolist()
                for s, x in scores.items()
            },
        }

    @torch.no_grad()
    def _keep(self, name: str, nets: Mapping[int, Predictor]) -> None:
        from safetensors.torch import save

        at = torch.linspace(self.parts.length // 2, self.parts.length - 1, self.each).round().long()
        parts: dict[str, list[Tensor]] = {}
        for batch in batched(self.compared, self.course.rows):
            found = self.teach.streams(batch)
            for s, net in nets.items():
                expected = net(found.of[s])[:, at - 1].flatten(0, 1)
                novel = found.of[s][:, at].flatten(0, 1) - expected
                parts.setdefault(f"expected.{s}", []).append(expected)
                parts.setdefault(f"novelty.{s}", []).append(torch.linalg.vector_norm(novel, dim=-1))
        if self.probing is not None:
            for s, (expected, state) in self.probing.read(self.work.model, nets, self.course.rows).items():
                parts[f"probed.{s}"] = [expected]
                parts[f"states.{s}"] = [state] if name == next(iter(self.asked)) else []
        make_folder(self.work.journal.folder)
        write_bytes(
            self.file(name), save({key: torch.cat(each).float().cpu() for key, each in parts.items() if each})
        )

    def kept(self, name: str) -> dict[int, tuple[Tensor, Tensor]]:
        """Layer -> expectations and lengths of the novel part, at the compared items."""
        from safetensors.torch import load_file

        named = load_file(self.file(name))
        return {s - 1: (named[f"expected.{s}"], named[f"novelty.{s}"]) for s in self.states}

    def probes(self) -> dict[str, dict[int, Tensor]]:
        """Layer -> expectations at probed items by design, and the states themselves under ""."""
        from safetensors.torch import load_file

        found: dict[str, dict[int, Tensor]] = {}
        for name in self.asked:
            named = load_file(self.file(name))
            if "" not in found:
                found[""] = {s - 1: named[f"states.{s}"] for s in self.states}
            found[name] = {s - 1: named[f"probed.{s}"] for s in self.states}
        return found

    def remarks(self) -> Sequence[str]:
        """What a reader must know."""
        read = self.course.steps * self.course.rows
        tokens, windows = read * self.parts.length, len(self.parts.train)
        return [
            f"{len(self.asked)} designs, {tokens:,} tokens each: {read / windows:.1f} passes over {windows} windows.",
            f"Designs are compared at {len(self.units)} tokens of {len(set(self.units.tolist()))} {self.parts.kind}.",
        ]


def _say_nothing(*_: object) -> None:
    """In the place of progress."""
