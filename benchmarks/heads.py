"""What head scores, last-token effects and batched ablations cost against what one would pay without them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.paired import Ratio, paired
from depthscope.analyses.head_patterns import HeadPatterns
from depthscope.anatomy.site import Site
from depthscope.engine.execute import Job, execute
from depthscope.engine.needs import united
from depthscope.engine.reading import Reading
from depthscope.engine.shard import Shard
from depthscope.runtime.attention import implementation
from depthscope.runtime.edits import replace_with, zero
from depthscope.runtime.head_ablation import Ablation, ablated
from depthscope.runtime.last_token import every_head, last_token_effects
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

LONG, PROMPT = 1024, 128
_PEAK = """
import json, sys, threading, time, psutil, torch
sys.path.insert(0, ".")
import depthscope as ds
from benchmarks.heads import all_maps, scores
torch.set_num_threads(1)
model = ds.load({name!r}, dtype="float32")
work = {work}(model, {length})
me = psutil.Process(); peak = [0]; done = []
before = me.memory_info().rss
def watch():
    while not done:
        peak[0] = max(peak[0], me.memory_info().rss); time.sleep(0.005)
thread = threading.Thread(target=watch); thread.start()
work(); done.append(1); thread.join()
print(json.dumps(peak[0] - before))
"""


def scores(model: Model, length: int = LONG):  # noqa: ANN201
    """One pass over one window with all scores of head_patterns."""
    windows = Reading(tokens=4 * length, window=length).windows(model)
    analysis = {"head_patterns": HeadPatterns()}
    needs = {n: a.needs(model.anatomy) for n, a in analysis.items()}
    chosen = next(w.index for w in windows.items if len(w.ids) == length)
    job = Job(analysis, needs, united(needs.values()), windows, windows.units()[1], {}, 0)
    return lambda: execute(model, job, Shard("capture-00000", (chosen,), length))


def all_maps(model: Model, length: int = LONG):  # noqa: ANN201
    """The same window with eager attention that returns every map of every head."""
    windows = Reading(tokens=4 * length, window=length).windows(model)
    ids = torch.tensor([next(w.ids for w in windows.items if len(w.ids) == length)])
    base = model.net.base_model

    def work() -> None:
        with torch.no_grad(), implementation(model, "eager"):
            base(input_ids=ids, output_attentions=True, use_cache=False)  # type: ignore[operator]

    return work


@dataclass(frozen=True)
class Peak:
    """Bytes beyond the loaded model while all maps are returned, and while heads are scored."""

    name: str
    maps: int
    scored: int

    def line(self) -> str:
        """One printed row."""
        ratio = self.scored / self.maps
        sizes = f"{self.scored / 2**20:.0f} MiB / {self.maps / 2**20:.0f} MiB"
        return f"{self.name:58s} {ratio:6.3f}  {sizes}  goal <= 0.1"


def head_memory(name: str, length: int = LONG) -> Peak:
    """Peak memory of scoring heads against eager attention with all maps, each in a process of its own."""
    found = {}
    for work in ("all_maps", "scores"):
        code = _PEAK.format(name=name, work=work, length=length)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[work] = int(json.loads(done.stdout.splitlines()[-1]))
    return Peak(
        f"peak memory, head scores / eager with all maps, T = {length}", found["all_maps"], found["scores"]
    )


def head_scores(model: Model) -> list[Ratio]:
    """All scores of all heads in one pass against eager attention that returns all maps (and scores nothing)."""
    name = f"head scores / eager with all maps, T = {LONG}"
    return [paired(name, all_maps(model), scores(model), "< 1", 5, time.process_time)]


def last_token(model: Model) -> list[Ratio]:
    """Indirect effects of all heads at the last token from kept keys and values, against a full forward for each."""
    batch = batch_of(model, PROMPT)
    ids, anatomy = batch.ids[0].tolist(), model.anatomy
    z = torch.zeros(anatomy.n_layers, anatomy.n_heads, anatomy.d_head)
    some = every_head(model)[:: anatomy.n_heads]
    last = torch.arange(PROMPT) == PROMPT - 1
    end = Site(anatomy.n_layers - 1, "resid_post")

    def full() -> None:
        for layer, head in some:
            put = z[layer, head].expand(1, PROMPT, -1)
            edit = replace_with(Site(layer, "head_out", head), put, last)
            _first_id(model.head.logits(run(model, batch, read=[end], edit=[edit])[end][:, -1]))

    def cached() -> None:
        last_token_effects(model, ids, z, _first_id)

    every, name = (
        len(every_head(model)),
        f"last-token effect of a head, kept keys / full forward, T = {PROMPT}",
    )
    found = paired(name, full, cached, "<= 0.1", 3, time.process_time)
    share = len(some) / every  # a full forward for one head a layer, kept keys for all heads
    return [replace(found, ratio=found.ratio * share, low=found.low * share, high=found.high * share)]


def head_ablations(model: Model) -> list[Ratio]:
    """One head a layer ablated: side by side and resumed, against a loop of full forwards."""
    batch = batch_of(model, PROMPT)
    some = every_head(model)[:: model.anatomy.n_heads]
    end = Site(model.anatomy.n_layers - 1, "resid_post")

    def loop() -> None:
        for layer, head in some:
            run(model, batch, read=[end], edit=[zero(Site(layer, "head_out", head))])

    def together() -> None:
        for _ in ablated(model, batch, [Ablation((pair,), "zero") for pair in some]):
            pass

    name = f"ablations side by side / loop, T = {PROMPT}"
    return [paired(name, loop, together, "< 1", 3, time.process_time)]


def batch_of(model: Model, length: int) -> Batch:
    """One window of the packaged text."""
    windows = Reading(tokens=8 * length, window=length).windows(model)
    return Batch.of_ids([next(w.ids for w in windows.items if len(w.ids) == length)])


def _first_id(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1)[:, 0]
