"""The representation profile against the bare forward pass, and batched entropies against a loop of full SVDs.

Both in processor time on one thread: all parts spread over threads alike, and a shared machine disturbs that least.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from benchmarks.paired import Ratio, paired
from depthscope.analyses.representation_profile import RepresentationProfile
from depthscope.anatomy.anatomy import base_model
from depthscope.engine.execute import Job, execute
from depthscope.engine.reading import Reading
from depthscope.engine.shard import Shard
from depthscope.measures.gram import prepared_gram, spectrum_of, token_gram
from depthscope.measures.spectrum import log_bound, renyi_entropy
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.threads import one_thread, spread

ROWS, LENGTH = 8, 128


def profile(model: Model) -> list[Ratio]:
    """The whole profile of 8 x 128 tokens, reading included, against the base model without its head."""
    batch = _batch(model)

    def bare() -> None:
        with torch.no_grad():
            base_model(model.net)(**batch.inputs, use_cache=False)

    with one_thread():
        return [
            paired(
                f"profile, S_2 on all 8 windows, S_1 on {exact} / bare forward", bare, _observing(model, exact),
                "<= 1.3" if exact < ROWS else "", clock=time.process_time,
            )
            for exact in (0, 4, ROWS)
        ]  # fmt: skip


def entropies(model: Model) -> list[Ratio]:
    """Prompt entropies (wei, S_1) of 8 windows at every state: batches of small Gram matrices against full SVDs."""
    states = run(model, _batch(model), read=["L0.resid_pre", "L*.resid_post"]).states().float()
    found: dict[str, Tensor] = {}

    def loop() -> None:
        found["loop"] = torch.tensor([[_by_svd(z) for z in state] for state in states])

    def batched() -> None:
        found["batched"] = torch.stack(spread(_batched, states))

    name = "entropies of all states, batched / loop of full SVDs"
    with one_thread():
        ratio = paired(name, loop, batched, "<= 0.33", most=5, clock=time.process_time)
    torch.testing.assert_close(found["batched"].float(), found["loop"], rtol=1e-4, atol=1e-4)
    return [ratio]


def _by_svd(z: Tensor) -> float:
    """One text, written plainly."""
    z = z - z.mean(0)
    sigma = torch.linalg.svd(z / z.norm(dim=-1, keepdim=True), full_matrices=False).S
    p = sigma**2 / (sigma**2).sum()
    return float(-(p * p.clamp_min(1e-30).log()).sum() / math.log(min(z.shape)))


def _batched(state: Tensor) -> Tensor:
    mask = torch.ones(state.shape[:2], dtype=torch.bool)
    p = spectrum_of(prepared_gram(token_gram(state), mask, "wei"))
    return renyi_entropy(p, 1.0) / log_bound(mask.sum(-1), state.shape[-1])


def _batch(model: Model) -> Batch:
    windows = Reading(tokens=ROWS * LENGTH * 2, window=LENGTH).windows(model)
    return Batch.of_ids([w.ids for w in windows.items if len(w.ids) == LENGTH][:ROWS])


def _observing(model: Model, exact: int):  # noqa: ANN202
    windows = Reading(tokens=ROWS * LENGTH * 2, window=LENGTH).windows(model)
    chosen = tuple(w.index for w in windows.items if len(w.ids) == LENGTH)[:ROWS]
    last = sorted(chosen)[exact] if exact < len(chosen) else max(chosen) + 1
    analysis = RepresentationProfile(exact=last)
    needs = analysis.needs(model.anatomy)
    job = Job({"profile": analysis}, {"profile": needs}, needs, windows, windows.units()[1], {}, 0)
    return lambda: execute(model, job, Shard("profile-00000", chosen, LENGTH))
