"""Plan: what a run will read, compute, hold and write, before it starts; a time range calibrated on two batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.choice import chosen
from depthscope.engine.execute import Job, execute
from depthscope.engine.needs import Analysis, Needs, by_material, united, waves
from depthscope.engine.reading import Reading
from depthscope.engine.session import BUDGET
from depthscope.engine.shard import Shard, capture_shards, planned, rows_that_fit
from depthscope.materials.window import Windows
from depthscope.runtime.model import Model

FINDINGS = 2 * 2**20
"""Bytes on disk for measurements, examples and manifest: they do not grow with the text."""


@dataclass(frozen=True)
class Wave:
    """One wave: the analyses that share its passes, and what it costs.

    Args:
        flops: floating point operations of blocks and decoding, counted as 2 a multiply-add; attention left out.
    """

    analyses: tuple[str, ...]
    capture_shards: int
    capture_tokens: int
    decoded_positions: int
    decoded_states: int
    sweep_shards: int
    sweep_tokens: int
    sweep_rows: int
    flops: float


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Args:
        memory: bytes at the peak: weights (twice where a float32 copy is swept), streams of a batch, logits.
        disk: bytes of the run folder.
        seconds: (low, high) of the whole run from two timed batches, or None where not calibrated.
    """

    model: str
    documents: int
    windows: int
    tokens: int
    waves: tuple[Wave, ...]
    memory: int
    disk: int
    seconds: tuple[float, float] | None
    refused: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def plan(
    model: Model,
    analyses: Iterable[str | Analysis] | None = None,
    *,
    reading: Reading | None = None,
    seed: int = 0,
    budget: int = BUDGET,
    calibrate: bool = True,
) -> Plan:
    """Say what an audit of these analyses would read, compute, hold in memory and leave, without running it.

    Args:
        analyses, seed, budget: as of `audit`. reading: the text and how it is cut; by default that of `audit`.
        calibrate: time two batches, so that there is a range of seconds; costs about as much as they do.

    Raises:
        What `audit` raises before it runs: Refused, BadInput, EmptyMaterial, UnknownName.

    Example:
        >>> from depthscope.engine.reading import Reading
        >>> ds.plan(model, ["logit_lens"], reading=Reading(tokens=256, window=32), calibrate=False).tokens
        256
    """
    asked = chosen(analyses, model)
    text = (reading or Reading()).windows(model)
    needs = {name: a.needs(model.anatomy) for name, a in asked.analyses.items()}
    passes = [
        Pass(names, united(needs[n] for n in names), text)
        for wave in waves(needs)
        for names in by_material({n: needs[n] for n in wave})
    ]
    passes = [
        replace(p, windows=p.union.material.windows(model, seed)) if p.union.material else p for p in passes
    ]
    found = [_wave(model, p, seed, budget) for p in passes]
    seconds = None
    if calibrate:
        spent = sum(w.flops for w in found) / _rate(model, asked.analyses, needs, passes, seed, budget)
        seconds = (0.8 * spent, 1.6 * spent)
    return Plan(
        model.name, len(text.documents), len(text.items), text.tokens, tuple(found),
        max(_memory(model, p.windows, p.union, budget) for p in passes), sum(_disk(p.windows, p.names) for p in passes),
        seconds, dict(asked.refused),
    )  # fmt: skip


@dataclass(frozen=True)
class Pass:
    """The analyses of one wave that read the same, the union of their needs, and what they read."""

    names: tuple[str, ...]
    union: Needs
    windows: Windows


def _wave(model: Model, one: Pass, seed: int, budget: int) -> Wave:
    shards = planned(model.anatomy, one.windows, one.union, model.dtype.itemsize, seed, budget)
    captured = [s for s in shards if s.sweep is None]
    swept = [s for s in shards if s.sweep is not None]
    return Wave(
        one.names, len(captured), sum(s.tokens for s in captured), sum(len(s.positions) for s in captured),
        model.anatomy.n_layers + 1 if one.union.decode else 0, len(swept), sum(s.tokens for s in swept),
        sum(s.tokens * _variants(model.anatomy, s) for s in swept), sum(_flops(model, s) for s in shards),
    )  # fmt: skip


def _longest(windows: Windows) -> int:
    return max(len(w.ids) for w in windows.items)


def _variants(anatomy: Anatomy, shard: Shard) -> int:
    need = shard.sweep
    if need is None:
        return 0
    return len(need.layers or range(anatomy.n_layers)) * len(need.sublayers)


def _flops(model: Model, shard: Shard) -> float:
    """Blocks: 2 per block parameter and token; a variant runs half of them on average. Decoding: 2 D V a row."""
    blocks = 2.0 * sum(p.numel() for layer in model.anatomy.layers for p in layer.block.parameters())
    decode = 2.0 * model.anatomy.d_model * model.anatomy.d_vocab
    rows = len(shard.positions) * (model.anatomy.n_layers + 2)
    if shard.sweep is not None:
        variants, replays = _variants(model.anatomy, shard), shard.sweep.replays
        places = shard.sweep.future * min(shard.sweep.reach, shard.length / 2) / shard.length
        rows = shard.tokens * (variants * (1 + places) + replays + 3)
        rounds = variants / 2 * (1 + places + shard.sweep.local)
        return shard.tokens * blocks * (3 + rounds + replays) + rows * decode
    return shard.tokens * blocks + rows * decode


def _rate(
    model: Model,
    analyses: Mapping[str, Analysis],
    needs: Mapping[str, Needs],
    passes: Sequence[Pass],
    seed: int,
    budget: int,
) -> float:
    """Floating point operations a second of two real batches with their analyses, the first one thrown away.

    Analyses that wait for others are left out: nothing can be handed to them yet.
    """
    one = passes[0]
    ready = [n for n in one.names if not needs[n].after]
    capturing = [n for n in ready if needs[n].captures] or ready
    union, windows = united(needs[n] for n in capturing), one.windows
    rows = min(2, rows_that_fit(model.anatomy, union, _longest(windows), model.dtype.itemsize, budget))
    chosen_ones = {n: analyses[n] for n in capturing}
    job = Job(chosen_ones, {n: needs[n] for n in capturing}, union, windows, windows.units()[1], {}, seed)
    shards = (
        capture_shards(windows, union, rows, seed)[:2]
        or planned(model.anatomy, windows, union, model.dtype.itemsize, seed, budget)[:2]
    )
    done, begun = 0.0, time.perf_counter()
    for number, shard in enumerate([*shards, *shards][:2]):
        if number == 1:
            done, begun = 0.0, time.perf_counter()
        short = replace(shard, positions=shard.positions[:32])
        execute(model, job, short)
        done += _flops(model, short)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return done / max(1e-9, time.perf_counter() - begun)


def _memory(model: Model, windows: Windows, union: Needs, budget: int) -> int:
    weights = sum(p.numel() * p.element_size() for p in model.net.parameters())
    copies = 1 if model.dtype.itemsize >= 4 or not union.sweeps else 1 + 4 // model.dtype.itemsize
    rows = rows_that_fit(model.anatomy, union, _longest(windows), model.dtype.itemsize, budget)
    sites = sum(model.anatomy.n_layers if s.startswith("L*.") else 1 for s in union.sites)
    streams = sites * rows * _longest(windows) * model.anatomy.d_model * model.dtype.itemsize
    from depthscope.runtime.head import BUDGET as LOGITS
    from depthscope.runtime.sweep import BUDGET as SWEEP

    return weights * copies + streams + LOGITS + (SWEEP if union.sweeps else 0)


def _disk(windows: Windows, names: Sequence[str]) -> int:
    ids = windows.tokens * 4
    parts = sum(40_000 for _ in names) * max(1, len(windows.items) // 8)
    return ids + parts + FINDINGS
