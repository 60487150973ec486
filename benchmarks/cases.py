"""What is measured. Each case takes a loaded model and returns ratios; A is always what one would pay anyway."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.heads import head_ablations, head_scores, last_token
from benchmarks.layer_tasks import layer_tasks
from benchmarks.lenses import lens_step, ridge
from benchmarks.paired import Ratio, paired
from benchmarks.predictor import predictor
from benchmarks.profile import entropies, profile
from benchmarks.removal import removal
from benchmarks.skip_map import skip_map
from benchmarks.vectors import dime_orders, lidar, similarity
from depthscope.analyses.head_patterns import HeadPatterns
from depthscope.analyses.logit_lens import WANTED
from depthscope.analyses.representation_profile import RepresentationProfile
from depthscope.analyses.residual_contribution import ResidualContribution
from depthscope.anatomy.anatomy import base_model
from depthscope.engine.execute import Job, execute
from depthscope.engine.needs import Analysis, united
from depthscope.engine.reading import Reading
from depthscope.engine.shard import Shard
from depthscope.runtime.edits import skip
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.sweep import skip_variants, sweep


def batch_of(model: Model, rows: int, length: int) -> Batch:
    """The first windows of the packaged text."""
    windows = Reading(tokens=rows * length * 2, window=length).windows(model)
    full = [w.ids for w in windows.items if len(w.ids) == length][:rows]
    return Batch.of_ids(full)


def capture(model: Model) -> list[Ratio]:
    """Contributions, profile and head rows together, against the base model without its head; 8 x 128 tokens."""
    batch = batch_of(model, 8, 128)
    bare = _bare(model, batch)
    kinds = {"S_2": 0, "S_2 and S_1": 8}
    found = []
    for words, exact in kinds.items():
        work = _observing(model, [ResidualContribution(), RepresentationProfile(exact=exact), HeadPatterns()])
        name = f"capture, profile with {words} on all 8 windows / bare forward"
        found.append(paired(name, bare, work, "<= 1.15" if not exact else ""))
    alone = (ResidualContribution(), RepresentationProfile(exact=0), HeadPatterns())
    return found + [
        paired(f"  {type(a).__name__} alone / bare forward", bare, _observing(model, [a])) for a in alone
    ]


def _bare(model: Model, batch: Batch):  # noqa: ANN202
    def forward() -> None:
        with torch.no_grad():
            base_model(model.net)(**batch.inputs, use_cache=False)

    return forward


def _observing(model: Model, analyses: list[Analysis]):  # noqa: ANN202
    windows = Reading(tokens=8 * 128 * 2, window=128).windows(model)
    named = {type(a).__name__: a for a in analyses}
    needs = {n: a.needs(model.anatomy) for n, a in named.items()}
    chosen = tuple(w.index for w in windows.items if len(w.ids) == 128)[:8]
    job = Job(named, needs, united(needs.values()), windows, windows.units()[1], {}, 0)
    return lambda: execute(model, job, Shard("capture-00000", chosen, 128))


def decode(model: Model) -> list[Ratio]:
    """The lens with every reduction against its matrix product alone, in the same chunks; 64 positions, all states."""
    seen = run(model, batch_of(model, 2, 64), read=["L0.resid_pre", "L*.resid_post"])
    states = seen.states().flatten(1, 2)[:, :64].float()
    final, targets = states[-1], seen.batch.ids.flatten()[:64]
    head = model.head
    rows = head.normalised(states).flatten(0, 1)
    blocks = rows.split(768)

    memory = torch.empty(768, head.chunk)

    def product() -> None:
        for block in blocks:
            for start, stop in head.chunks():
                weight = head.piece(start, stop)[0]
                torch.mm(block, weight.T, out=memory[: len(block), : stop - start])

    def lens() -> None:
        head.decode(states, final, WANTED, targets)

    with torch.no_grad():
        return [
            paired("decode with every reduction / matrix product alone", product, lens, "<= 1.5, stretch 1.3")
        ]


def skips(model: Model) -> list[Ratio]:
    """All layer skips with output measures in one sweep against L full forwards with the head; 2 x 128 tokens."""
    model = model.precise
    batch = batch_of(model, 2, 128)
    at = torch.ones_like(batch.mask)
    at[:, 0] = False
    last = f"L{model.anatomy.n_layers - 1}.resid_post"
    weight = model.head.unembedding()[0]

    def naive() -> None:
        for layer in range(model.anatomy.n_layers):
            final = run(model, batch, read=[last], edit=[skip(layer, at=at)])[last]
            _logits(model, final[at], weight)

    def staircase() -> None:
        seen = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
        sweep(seen, skip_variants(model.anatomy), at, at)

    return [
        paired(
            "skip every layer, output measures / L forwards with head", naive, staircase, "<= 0.60", most=5
        )
    ]


def _logits(model: Model, final: Tensor, weight: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.linear(model.head.normalised(final), weight)


CASES = {
    "capture": capture,
    "decode": decode,
    "skips": skips,
    "skip_map": skip_map,
    "lens_step": lens_step,
    "ridge": ridge,
    "predictor": predictor,
    "removal": removal,
    "profile": profile,
    "entropies": entropies,
    "lidar": lidar,
    "similarity": similarity,
    "layer_tasks": layer_tasks,
    "dime": dime_orders,
    "head_scores": head_scores,
    "last_token": last_token,
    "head_ablations": head_ablations,
}
