"""The full skip map, all tokens and four futures, by one staircase against the naive loop, written plainly."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.paired import ASKED, Ratio, seconds
from depthscope.anatomy.anatomy import base_model
from depthscope.engine.reading import Reading
from depthscope.engine.splits import splits_of
from depthscope.materials.window import Window
from depthscope.runtime.effects import Effects
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.sweep import skip_variants, sweep

LENGTH, PROMPTS, SPLITS, REACH = 128, 3, 4, 64
KEYS = ("output_kl", "shift", "changed", "future_kl", "future_shift", "future_changed")
Numbers = dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """How far the numbers of the staircase are from those of the loop, relative to the largest of their kind."""

    worst: float
    where: str

    def line(self) -> str:
        """One printed row."""
        return f"{'  largest relative difference of the numbers':58s} {self.worst:.1e}  in {self.where}  goal <= 5e-5"


@dataclass(frozen=True)
class Evaluations:
    """Layer-token evaluations of both, counted where blocks are called."""

    naive: int
    staircase: int

    def line(self) -> str:
        """One printed row."""
        share = self.staircase / self.naive
        words = f"{self.staircase:,} of {self.naive:,}"
        return f"{'  layer-token evaluations, staircase / loop':58s} {share:6.3f}  {words}  goal <= 0.35"


def skip_map(model: Model) -> list[Ratio | Difference | Evaluations]:
    """Every layer skipped, everywhere and before each split; effects on all later layers and on the output."""
    model = model.precise
    windows = Reading(tokens=PROMPTS * LENGTH * 4, window=LENGTH).windows(model)
    prompts = [w for w in windows.items if len(w.ids) == LENGTH][:PROMPTS]
    splits = splits_of(prompts, LENGTH, SPLITS, seed=0)
    kept: dict[str, Numbers] = {}

    def loop() -> None:
        kept["naive"] = _naive(model, prompts, splits)

    def staircase() -> None:
        kept["staircase"] = _numbers(_staircase(model, prompts, splits))

    ratio = _timed(loop, staircase)
    with _counting(model) as seen:
        staircase()
    return [ratio, _difference(kept), Evaluations(_evaluations(model), seen[0])]


def _timed(loop: Callable[[], None], staircase: Callable[[], None]) -> Ratio:
    """One or two runs of each, in turn and without a warm-up: the loop takes hundreds of forward passes."""
    pairs = [(seconds(loop), seconds(staircase)) for _ in range(min(ASKED[0], 2))]
    ratios, base = [b / a for a, b in pairs], [a for a, _ in pairs]
    noise = max(base) / min(base) - 1 if len(base) > 1 else None
    name = "skip map, all tokens and 4 futures / naive loop"
    middle = sum(ratios) / len(ratios)
    return Ratio(name, middle, min(ratios), max(ratios), noise, sum(base) / len(base), len(pairs), "<= 0.333")


def _staircase(model: Model, prompts: list[Window], splits: Tensor) -> Effects:
    batch = Batch.of_ids([w.ids for w in prompts])
    at = torch.ones_like(batch.mask)
    at[:, 0] = False
    seen = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    return sweep(seen, skip_variants(model.anatomy), at, at, splits=splits, reach=REACH)


def _numbers(effects: Effects) -> Numbers:
    return {key: getattr(effects, key).sum(-1) for key in KEYS}


def _naive(model: Model, prompts: list[Window], splits: Tensor) -> Numbers:
    """One forward pass a prompt, layer and split."""
    depth, token = model.anatomy.n_layers, torch.arange(LENGTH)
    found = {
        key: torch.zeros((depth, depth) if "changed" in key else depth, dtype=torch.float64) for key in KEYS
    }
    for prompt, own in zip(prompts, splits.tolist(), strict=True):
        ids = torch.tensor([prompt.ids])
        writes, log_p = _forward(model, ids)
        for layer in range(depth):
            for t in (LENGTH, *own):
                future = "future_" if t < LENGTH else ""
                moved, log_q = _forward(model, ids, layer, (token > 0) & (token < t))
                measured = (token >= t) & (token < t + REACH) if future else token > 0
                kl = (log_p.exp() * (log_p - log_q)).sum(-1)[measured]
                shift = (log_p.exp() - log_q.exp()).norm(dim=-1)[measured]
                found[f"{future}kl" if future else "output_kl"][layer] += float(kl.double().sum())
                found[f"{future}shift"][layer] += float(shift.double().sum())
                found[f"{future}changed"][layer] += (
                    (moved - writes).norm(dim=-1)[:, measured].double().sum(-1)
                )
    return found


@torch.no_grad()
def _forward(model: Model, ids: Tensor, skipped: int = -1, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Block writes [layer token d_model] and log-probabilities [token vocab] of one full forward."""
    writes: list[Tensor] = []

    def watch(layer: int):  # noqa: ANN202
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            before = args[0]
            if layer == skipped and at is not None:
                output = torch.where(at[..., None], before, output)
            writes.append((output - before)[0])
            return output

        return hook

    handles = [x.block.register_forward_hook(watch(x.index)) for x in model.anatomy.layers]
    try:
        logits = model.net(input_ids=ids, use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(writes), torch.log_softmax(logits.float(), -1)


def _difference(kept: dict[str, Numbers]) -> Difference:
    found = {}
    for key in KEYS:
        a, b = kept["naive"][key], kept["staircase"][key]
        found[key] = float((a - b).abs().max() / a.abs().max())
    where = max(found, key=found.__getitem__)
    return Difference(found[where], where)


def _evaluations(model: Model) -> int:
    """What one forward pass of the loop costs, counted, times their number."""
    with _counting(model) as seen, torch.no_grad():
        base_model(model.net)(input_ids=torch.zeros(1, LENGTH, dtype=torch.long), use_cache=False)
    return seen[0] * PROMPTS * (1 + model.anatomy.n_layers * (1 + SPLITS))


@contextmanager
def _counting(model: Model) -> Generator[list[int]]:
    """Tokens that enter blocks, rows and layers together."""
    total = [0]

    def count(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        total[0] += args[0].shape[0] * args[0].shape[1]

    handles = [x.block.register_forward_pre_hook(count) for x in model.anatomy.layers]
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()
