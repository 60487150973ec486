"""Greedy pruning with shared beginnings against one pass a set; 2 x 128 tokens, 3 layers, every free layer tried."""

from __future__ import annotations

import torch

from benchmarks.paired import Ratio, paired
from depthscope.engine.reading import Reading
from depthscope.engine.removal import Removals, removal_order
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.orders import without
from depthscope.runtime.replay import replay
from depthscope.runtime.run import Seen, run

REMOVE = 3


def removal(model: Model) -> list[Ratio]:
    """Wall clock of both, and the exact number of blocks that each of them ran."""
    model = model.precise
    windows = Reading(tokens=2 * 128 * 2, window=128).windows(model)
    ids = [list(w.ids) for w in windows.items if len(w.ids) == 128][:2]
    depth = model.anatomy.n_layers
    found: list[Removals] = []

    def shared() -> None:
        found[:] = [removal_order(model, ids, REMOVE, protect={0, depth - 1}, lazy=0, beam=1)]

    def naive() -> None:
        seen = run(model, Batch.of_ids(ids), read=["L*.resid_post", "L0.resid_pre"], record=True)
        removed: list[int] = []
        for _ in range(REMOVE):
            free = [k for k in range(1, depth - 1) if k not in removed]
            removed.append(min(free, key=lambda k: _loss(seen, [*removed, k])))

    measured = paired("greedy removal, shared beginnings / one pass a set", naive, shared, most=3)
    calls, separate = (
        sum(getattr(level, name) for level in found[0].levels) for name in ("calls", "separate")
    )
    share = calls / separate
    counted = Ratio(f"  blocks run, {calls} / {separate}", share, share, share, 0.0, measured.seconds, 1)
    return [measured, counted]


def _loss(seen: Seen, removed: list[int]) -> float:
    """Mean loss of the model without some layers, all the others run from the first block on."""
    model, batch = seen.model, seen.batch
    depth = model.anatomy.n_layers
    end = replay(seen, 0, order=without(depth, removed))[f"L{depth - 1}.resid_post"]
    with torch.no_grad():
        logits = model.head.logits(end[:, :-1])
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten()))
