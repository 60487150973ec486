"""What needs a process of its own: loading from the cache, and memory beyond the model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LOAD = """
import time, depthscope as ds
begun = time.perf_counter(); ds.load({name!r}); print(time.perf_counter() - begun)
"""
_MEMORY = """
import json, psutil, threading, time, torch
import depthscope as ds
from depthscope.engine.audit import audit
from depthscope.engine.session import BUDGET
from depthscope.engine.plan import plan
from depthscope.runtime.run import run
torch.set_num_threads(2)
model = ds.load({name!r}, dtype="float32")
run(model, torch.randint(5, 1000, (1, 256)), read=["L*.resid_post"])
me = psutil.Process(); before = me.memory_info().rss; peak = [before]; done = []
def watch():
    while not done:
        peak[0] = max(peak[0], me.memory_info().rss); time.sleep(0.02)
thread = threading.Thread(target=watch); thread.start()
ds.audit(model, ["logit_lens", "residual_contribution", "layer_skip"], out={out!r}, tokens=2048, seed=0, force=True)
done.append(1); thread.join()
from depthscope.runtime.head import BUDGET as LOGITS
from depthscope.runtime.sweep import BUDGET as SWEEP
print(json.dumps({{"beyond": peak[0] - before, "budget": BUDGET + LOGITS + SWEEP, "vocab": model.anatomy.d_vocab}}))
"""


@dataclass(frozen=True)
class Loading:
    """Seconds of a first load, which converts, and of one from the cache."""

    model: str
    first: float
    cached: float

    def line(self) -> str:
        """One printed row."""
        ratio, both = self.cached / self.first, f"({self.cached:.1f} s / {self.first:.1f} s)"
        return f"load {self.model}: from the cache / first load  {ratio:.3f}  {both}"


@dataclass(frozen=True)
class Memory:
    """Peak bytes beyond the loaded model, and the stated budget."""

    model: str
    vocab: int
    beyond: int
    budget: int

    def line(self) -> str:
        """One printed row."""
        return (
            f"memory {self.model}, vocabulary {self.vocab:,}: {self.beyond / 2**20:.0f} MiB beyond the model, "
            f"budget {self.budget / 2**20:.0f} MiB: {'within' if self.beyond <= self.budget else 'OVER'}"
        )


def loading(name: str) -> Loading:
    """Load twice with an empty cache folder of its own."""
    with tempfile.TemporaryDirectory() as cache:
        first, cached = (float(_python(_LOAD.format(name=name), cache)) for _ in range(2))
    return Loading(name, first, cached)


def memory(name: str) -> Memory:
    """Audit 2,048 tokens and watch the process's resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        found = json.loads(
            _python(_MEMORY.format(name=name, out=str(Path(folder) / "run")), None).splitlines()[-1]
        )
    return Memory(name, found["vocab"], found["beyond"], found["budget"])


def _python(code: str, cache: str | None) -> str:
    import os

    environment = {**os.environ, **({"DEPTHSCOPE_CACHE": cache} if cache else {})}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()
