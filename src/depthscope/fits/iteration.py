"""Iteration: a small transformer trained from scratch on sequences that are worked through step by step.

It leaves checkpoints that load with plain transformers, so every analysis runs on them and a sweep over them shows
when its heads come to be; the card `iteration.json` says how often it was right at each length. On a CPU a training
takes minutes; it goes on where it was stopped.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from dataclasses import field as made
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import nn

import depthscope
from depthscope.engine.journal import Journal
from depthscope.errors import NonFinite, RunMismatch
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.iteration_course import IterationCourse, drawn_net, loss_of, right_sequences, tokenizer
from depthscope.fits.pair_training import saved_net, step_folder, tensors_of
from depthscope.fits.watch import SILENT, Watch
from depthscope.runtime.checkpoint import quiet
from depthscope.store.atomic import make_folder, read_json, write_json

CARD = "iteration.json"


@dataclass(frozen=True)
class IterationTraining:
    """What is trained and how.

    Args:
        seed: of weights and sequences. start: a folder of another such network whose weights it starts from, to see how
            fast one task is learnt after another; "" starts from random weights.
    """

    course: IterationCourse = made(default_factory=IterationCourse)
    seed: int = 0
    start: str = ""

    def run(self, out: str | Path, *, watch: Watch = SILENT, command: str = "") -> Path:
        """Train and leave `out/step-N`, each a checkpoint, and the card; the same call goes on where it was stopped.

        Raises:
            RunMismatch: when `out` holds a training with other parameters. NonFinite: when the loss is not finite.
            LoadError: when `start` is no such network.
        """
        folder = make_folder(Path(out))
        with FileLock(folder / ".lock"):
            fixed = {"course": asdict(self.course), "seed": self.seed, "start": self.start}
            journal = Journal(folder / "journal", "iteration", "")
            key = journal.key("training", fixed)
            card = read_json(folder / CARD) if (folder / CARD).exists() else {"key": key}
            if card["key"] != key:
                raise RunMismatch(
                    f"{folder} holds a training with other parameters; give another --out or remove the folder"
                )
            if "seconds" not in card:
                begun = time.perf_counter()
                about = {"key": key, "depthscope": depthscope.__version__, "command": command, **fixed}
                learnt = self._train(folder, Checkpoint(journal, "training", fixed), watch)
                seconds = round(time.perf_counter() - begun, 1)
                write_json(folder / CARD, {**about, **learnt, "seconds": seconds})
        return folder

    def _train(self, folder: Path, state: Checkpoint, watch: Watch) -> dict[str, Any]:
        net = self._network()
        descent = torch.optim.Adam(net.parameters(), lr=self.course.lr)
        step, learnt = _resumed(net, descent, state)
        words = tokenizer()
        with quiet():
            while True:
                if step in self.course.saved() and str(step) not in learnt:
                    learnt[str(step)] = self._judged(net)
                    saved_net(net, words, step_folder(folder, step))
                    state.save(tensors_of(net, descent), step, {"learnt": learnt})
                watch.progress(self.course.task, step, self.course.steps)
                if step == self.course.steps:
                    state.drop()
                    return {"learnt": learnt}
                self._step(net, descent, step)
                step += 1

    def _network(self) -> nn.Module:
        net = drawn_net(self.course, self.seed)
        if self.start:
            from depthscope.runtime.load import load

            known = load(self.start, dtype="float32").net.state_dict()
            net.load_state_dict({name: known[name] for name in net.state_dict()})
        return net.train()

    def _step(self, net: nn.Module, descent: torch.optim.Optimizer, step: int) -> None:
        loss = loss_of(net, *self.course.batch(step, self.seed))
        if not torch.isfinite(loss):
            raise NonFinite(f"the loss at step {step} is {loss.item()}; give a smaller --lr")
        loss.backward()
        for group in descent.param_groups:
            group["lr"] = self.course.rate(step)
        descent.step()
        descent.zero_grad(set_to_none=True)

    def _judged(self, net: nn.Module) -> dict[str, float]:
        """Share of sequences that are right, by length: those trained on, held out, and two beyond."""
        most = min(self.course.longest + 2, max(self.course.room, self.course.longest))
        return {str(n): right_sequences(net, self.course.task, n) for n in range(1, most + 1)}


def _resumed(net: nn.Module, descent: torch.optim.Optimizer, state: Checkpoint) -> tuple[int, dict[str, Any]]:
    """Weights, moments and step as they were."""
    stored = state.load()
    if stored is None:
        return 0, {}
    tensors, step = stored
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(tensors[name])
            if step:
                moments = {kind: tensors[f"{kind} {name}"] for kind in ("exp_avg", "exp_avg_sq")}
                descent.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step, dict(state.notes()["learnt"])
