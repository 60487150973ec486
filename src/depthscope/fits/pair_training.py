"""The training of one small network on next tokens, with checkpoints at log-spaced steps; it goes on where it was."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from depthscope.errors import NonFinite
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.pair_nets import made
from depthscope.fits.pair_text import batches
from depthscope.fits.selective_scan import trainable_scan
from depthscope.materials.window import Window
from depthscope.ranges import above, at_least, check_ranges
from depthscope.runtime.checkpoint import quiet

KEEP = 16
"""Steps between two states of the training on the disk."""
JUDGED = 64
"""Most windows that a loss is taken on."""


@dataclass(frozen=True)
class PairCourse:
    """How both networks are trained.

    AdamW with gradients clipped to norm 1. The rate rises over the first twentieth of the steps and falls along a half
    cosine to a tenth.

    Args:
        steps: steps in all. rows: windows a step. lr: the highest rate. decay: weight decay of matrices.
    """

    steps: int = 256
    rows: int = 16
    lr: float = 3e-3
    decay: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, steps=at_least(1), rows=at_least(1), lr=above(0))

    def saved(self) -> tuple[int, ...]:
        """The steps whose checkpoint is kept: 0, the powers of two, and the last."""
        powers = (2**k for k in range(self.steps.bit_length()))
        return tuple(sorted({0, self.steps, *(step for step in powers if step < self.steps)}))

    def rate(self, step: int) -> float:
        """The rate of the step after `step` steps."""
        warm = max(1, self.steps // 20)
        fall = 0.55 + 0.45 * math.cos(math.pi * step / self.steps)
        return self.lr * min(1.0, (step + 1) / warm) * fall


@dataclass
class PairTraining:
    """One network's training.

    Args:
        train, judge: windows to train on, and to judge on. folder: gets one checkpoint folder a saved step.
        state: where weights and moments are kept between two calls. tokenizer: saved beside the weights.
    """

    config: Any
    course: PairCourse
    seed: int
    train: Sequence[Window]
    judge: Sequence[Window]
    tokenizer: Any
    folder: Path
    state: Checkpoint
    watch: Callable[[int], None]

    def run(self) -> dict[int, float]:
        """Train to the last step: step -> mean loss in nats a token on the windows to judge on.

        Raises:
            NonFinite: when a loss is not finite.
        """
        net = made(self.config, self.seed)
        descent = _descent(net, self.course)
        step, losses = self._resumed(net, descent)
        scan = trainable_scan() if self.config.model_type == "mamba" else nullcontext()
        with scan, quiet():
            ahead = batches(self.train, self.course.rows, self.seed, step)
            while True:
                if step in self.course.saved() and step not in losses:
                    losses[step] = _judged(net, self.judge)
                    saved_net(net, self.tokenizer, step_folder(self.folder, step))
                if step % KEEP == 0 or step == self.course.steps:
                    self.state.save(
                        tensors_of(net, descent), step, {"losses": {str(k): v for k, v in losses.items()}}
                    )
                self.watch(step)
                if step == self.course.steps:
                    return losses
                _step(net, descent, next(ahead), self.course.rate(step), step)
                step += 1

    def _resumed(self, net: nn.Module, descent: torch.optim.Optimizer) -> tuple[int, dict[int, float]]:
        """Weights and moments as they were, with the steps done; those after the stored one are done again."""
        stored = self.state.load()
        if stored is None:
            return 0, {}
        tensors, step = stored
        names = dict(net.named_parameters())
        with torch.no_grad():
            for name, parameter in names.items():
                parameter.copy_(tensors[name])
                if step:
                    moments = {kind: tensors[f"{kind} {name}"] for kind in ("exp_avg", "exp_avg_sq")}
                    descent.state[parameter] = {"step": torch.tensor(float(step)), **moments}
        return step, {int(k): v for k, v in self.state.notes()["losses"].items()}


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is: `step-000512`, so that names sort as steps do."""
    return folder / f"step-{step:06d}"


def _descent(net: nn.Module, course: PairCourse) -> torch.optim.Optimizer:
    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": course.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=course.lr, betas=(0.9, 0.95))


def _step(
    net: nn.Module, descent: torch.optim.Optimizer, ids: Int[Tensor, "row token"], rate: float, step: int
) -> None:
    loss = next_token_loss(net, ids)
    if not torch.isfinite(loss):
        raise NonFinite(
            f"the loss of {type(net).__name__} at step {step} is {loss.item()}; give a smaller --lr"
        )
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for group in descent.param_groups:
        group["lr"] = rate
    descent.step()
    descent.zero_grad(set_to_none=True)


def next_token_loss(net: nn.Module, ids: Int[Tensor, "row token"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of each token given those before it in its row."""
    logits = net(input_ids=ids).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def _judged(net: nn.Module, windows: Sequence[Window], rows: int = 16) -> float:
    ids = torch.tensor([w.ids for w in windows[:JUDGED]])
    with torch.no_grad():
        sums = [float(next_token_loss(net, part)) * len(part) for part in ids.split(rows)]
    return sum(sums) / len(ids)


def tensors_of(net: nn.Module, descent: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, and the moments of those that a descent has moved."""
    found: dict[str, Tensor] = {}
    for name, parameter in net.named_parameters():
        found[name] = parameter
        moments = descent.state.get(parameter, {})
        found |= {f"{kind} {name}": moments[kind] for kind in ("exp_avg", "exp_avg_sq") if kind in moments}
    return found


def saved_net(net: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ANN401
    """The checkpoint in the form of transformers, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    net.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
