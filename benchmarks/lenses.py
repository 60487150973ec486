"""What fitting a lens costs: the fused step against dense autograd, and ridge sums against the bare pass."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.paired import Ratio, paired
from depthscope.anatomy.anatomy import base_model
from depthscope.engine.reading import Reading
from depthscope.fits.ridge_lens import gathered
from depthscope.runtime.lens_step import fused_loss, kl_goal
from depthscope.runtime.model import Batch, Model

POSITIONS, STATES = 128, 4
_STEP = """
import json, psutil, threading, time, torch
import depthscope as ds
from benchmarks import lenses
torch.set_num_threads(1)
model = ds.load({name!r}, dtype="float32")
work = getattr(lenses, {kind!r})(model)
me = psutil.Process(); before = me.memory_info().rss; peak = [before]; done = []
def watch():
    while not done:
        peak[0] = max(peak[0], me.memory_info().rss); time.sleep(0.005)
thread = threading.Thread(target=watch); thread.start()
work()
done.append(1); thread.join()
print(json.dumps(peak[0] - before))
"""


def _material(model: Model) -> tuple[Tensor, Tensor]:
    """Random vectors in place of translated states and of the final one: the cost does not depend on the numbers."""
    generator = torch.Generator().manual_seed(0)
    width = model.anatomy.d_model
    states = torch.randn(STATES, POSITIONS, width, generator=generator)
    return states.requires_grad_(), torch.randn(POSITIONS, width, generator=generator)


def fused(model: Model) -> Callable[[], object]:
    """One step of a few states: teacher, loss and gradient, streamed."""
    states, final = _material(model)
    return lambda: torch.autograd.grad(
        fused_loss(model.head, states, kl_goal(model.head, final)).sum(), states
    )


def dense(model: Model) -> Callable[[], object]:
    """The same with whole log-softmaxes and autograd, all states together."""
    states, final = _material(model)
    weight = model.head.unembedding()[0].detach()

    def logs(vectors: Tensor) -> Tensor:
        return nn.functional.linear(model.head.normalised(vectors), weight).log_softmax(-1)

    def step() -> object:
        with torch.no_grad():
            log_p = logs(final)
            p = log_p.exp()
        return torch.autograd.grad((p * (log_p - logs(states))).sum(), states)

    return step


def lens_step(model: Model) -> list[Ratio]:
    """Processor time of the fused step in units of the dense one; 4 states at 128 positions, one affine head."""
    name = "fused lens step / dense autograd"
    return [paired(name, dense(model), fused(model), "<= 1.2", 5, time.process_time)]


def ridge(model: Model) -> list[Ratio]:
    """Processor time of a ridge lens's sums, reading included, against the model without its head; 8 x 256 tokens."""
    windows = Reading(tokens=16384, window=256).windows(model)
    chosen = [w for w in windows.items if len(w.ids) == 256][:8]
    batch = Batch.of_ids([w.ids for w in chosen])

    def forward() -> None:
        with torch.no_grad():
            base_model(model.net)(**batch.inputs, use_cache=False)

    name = "ridge lens sums / bare forward"
    return [paired(name, forward, lambda: gathered(model, chosen), "<= 1.5", 3, time.process_time)]


@dataclass(frozen=True)
class StepMemory:
    """Peak bytes beyond the loaded model of one step, fused and dense."""

    model: str
    fused: int
    dense: int

    def line(self) -> str:
        """One printed row."""
        both = f"({self.fused / 2**20:.0f} MiB / {self.dense / 2**20:.0f} MiB)"
        return f"memory of the fused lens step / dense autograd, {self.model}  {self.fused / self.dense:.3f}  {both}"


def step_memory(name: str) -> StepMemory:
    """Each kind of step in a process of its own."""
    found = {}
    for kind in ("fused", "dense"):
        code = _STEP.format(name=name, kind=kind)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    return StepMemory(name, **found)
