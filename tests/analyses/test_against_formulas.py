"""Every measurement of every first analysis against the formulas, computed plainly (see formulas.py)."""

from __future__ import annotations

import functools
from pathlib import Path

import formulas
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from formulas import Numbers, Plain

from depthscope.analyses.decision_flips import DecisionFlips
from depthscope.analyses.frequency_onset import FrequencyOnset
from depthscope.analyses.head_patterns import HeadPatterns
from depthscope.analyses.layer_skip import LayerSkip
from depthscope.analyses.logit_lens import LogitLens
from depthscope.analyses.settle_depth import SettleDepth
from depthscope.engine.audit import audit
from depthscope.engine.choice import FIRST
from depthscope.engine.needs import SweepNeed
from depthscope.engine.shard import sampled, sweep_shards
from depthscope.engine.splits import splits_of
from depthscope.errors import MissingPackage
from depthscope.materials.window import Window, Windows
from depthscope.runtime.load import load
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run

KINDS = ("llama", "gpt2", "gemma2")
TEXTS = [
    f"{name}: {'the tide came in and took number ' * (1 + k % 3)}{k * k} of the {k + 3} boats away."
    for k, name in enumerate(["ada", "bo", "cyd", "dag", "eli", "fay", "gus", "hal", "ivo"])
]
POSITIONS, QUERIES, EDGES = 60, 5, (3, 9)
SKIP = LayerSkip(tokens=96, sublayer_tokens=48, documents=6)
ANALYSES = [
    "corpus_statistics",
    LogitLens(positions=POSITIONS),
    SettleDepth(positions=POSITIONS),
    FrequencyOnset(positions=POSITIONS, edges=EDGES),
    DecisionFlips(positions=POSITIONS, edges=EDGES),
    "residual_contribution",
    SKIP,
    "representation_profile",
    HeadPatterns(every_query=QUERIES),
]
RESAMPLED = {
    "logit_lens": ("convergence_censored", "overlap_censored"),
    "residual_contribution": ("mode_support", "cosine_crossing_support"),
    "layer_skip": (
        "half_ratio",
        "half_ratio_difference",
    ),  # held to numbers in tests/measures/test_depth_use.py
}
"""Shares of bootstrap draws: no formula without the draws."""
CELLS = [(kind, name) for kind in KINDS for name in (*FIRST, "frequency_onset", "decision_flips")]


def windows_of(run: Run) -> Windows:
    """What the run says it read."""
    table = pq.read_table(run.path / "inputs" / "text.parquet").to_pylist()
    return Windows(
        tuple(Window(r["window"], r["document"], tuple(r["ids"])) for r in sorted(table, key=lambda r: r["window"])),
        "", "", 0,
    )  # fmt: skip


def expected_of(plain: Plain, run: Run, skip: LayerSkip, positions: int, every: int) -> dict[str, Numbers]:
    """All analyses by formula, on what the run read."""
    windows = windows_of(run)
    ids = [w.ids for w in windows.items]
    passes = [plain.run(row) for row in ids]
    lens = formulas.lens_of(plain, passes, ids, sampled(windows, positions, seed=0))
    return {
        "corpus_statistics": formulas.corpus_statistics(passes),
        "logit_lens": formulas.logit_lens(lens),
        "settle_depth": formulas.settle_depth(lens),
        "frequency_onset": formulas.frequency_onset(lens, ids, EDGES),
        "decision_flips": formulas.decision_flips(lens, ids, EDGES),
        "residual_contribution": formulas.residual_contribution(passes),
        "layer_skip": skips_of(plain, windows, skip),
        "representation_profile": formulas.representation_profile(passes),
        "head_patterns": formulas.head_patterns(plain, passes, ids, every),
    }


def skips_of(plain: Plain, windows: Windows, skip: LayerSkip) -> Numbers:
    """Attention, block and MLP side by side, each on the windows that its staircase read and split."""
    found = {}
    for sublayer in ("attention", "block", "mlp"):
        tokens = skip.tokens if sublayer == "block" else skip.sublayer_tokens
        need = SweepNeed((sublayer,), (), tokens, skip.documents, skip.protect)
        read = [(windows.items[w], s.length) for s in sweep_shards(windows, need, 0, 0) for w in s.windows]
        splits = [splits_of([w], length, skip.future, 0)[0].tolist() for w, length in read]
        rows = [w.ids[:length] for w, length in read]
        found[sublayer] = formulas.layer_skip(plain, rows, splits, skip.reach, sublayer, skip.protect)
    by_layer = [n for n, value in found["block"].items() if value.ndim == 1]
    both = {name: np.stack([f[name] for f in found.values()], -1) for name in by_layer}
    pairs = {n: value for n, value in found["block"].items() if value.ndim == 2}
    for name in ("effect_on_later", "future_effect_on_later"):
        pairs[f"sublayer_{name}"] = np.stack([found[s][name] for s in ("attention", "mlp")], -1)
    floors = dict.fromkeys(("noise_floor", "future_noise_floor"), np.asarray(0.0))
    return {**both, **pairs, **floors, **depths_of(found["block"]), **nothing_local(len(plain.blocks))}


def depths_of(block: Numbers) -> Numbers:
    """Summaries of whole layers."""
    profiles = [block["shift"], block["future_shift"]]
    profiles += [formulas.mean_on_later(block[f"{when}effect_on_later"]) for when in ("", "future_")]
    held, score = zip(*map(formulas.depth_of_effects, profiles), strict=True)
    return {"depth_holding_90": np.asarray(held), "depth_score": np.asarray(score)}


def nothing_local(depth: int) -> Numbers:
    """Direct effects are held to full forwards in tests/runtime/test_sweep.py; these runs did not ask for them."""
    return {
        "local_effect": np.full((depth, depth), np.nan),
        "sublayer_local_effect": np.full((depth, depth, 2), np.nan),
    }


@functools.cache
def model_of(kind: str) -> Model:
    return tiny(kind, torch.float64, seed=3)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, dict[str, Numbers]]]:
    """For each kind, a run and what the formulas say."""
    found = {}
    for kind in KINDS:
        out = tmp_path_factory.mktemp(kind) / "run"
        run = audit(model_of(kind), ANALYSES, out=out, text=TEXTS, tokens=420, window=40)
        expected = expected_of(Plain(model_of(kind).net, kind), run, SKIP, POSITIONS, QUERIES)
        found[kind] = (run, expected)
    return found


@pytest.mark.parametrize(("kind", "name"), CELLS)
def test_every_measurement_equals_its_formula(both: dict, kind: str, name: str) -> None:
    run, expected = both[kind]
    measured = run[name].findings.measurements
    assert set(measured) == set(expected[name]) | set(RESAMPLED.get(name, ()))
    for key, value in expected[name].items():
        # the root of a vanishing eigenvalue of a Gram matrix is exact to half of the digits only
        # what is kept of single positions is float32; so is gemma2's softmax, and futures run in another shape
        # (the depth score reads their profiles as well)
        rough = key == "effective_rank" or (key.endswith(("_largest", "_p95")) and name == "layer_skip")
        # and the gain of gemma2's norms is read in float32
        rough = rough or (kind == "gemma2" and ("future" in key or key == "depth_score" or "weighted" in key))
        tolerance = 1e-6 if rough else 1e-9
        np.testing.assert_allclose(measured[key].value, value, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_measurement_of_a_trained_model_equals_its_formula(tmp_path: Path) -> None:
    try:
        model = load("smollm2-135m", dtype=torch.float32)
    except MissingPackage as missing:
        pytest.skip(str(missing))
    skip = LayerSkip(tokens=64, sublayer_tokens=32, documents=2)
    analyses = [
        "corpus_statistics",
        LogitLens(positions=24),
        SettleDepth(positions=24),
        "residual_contribution",
        skip,
        "representation_profile",
        HeadPatterns(every_query=16),
    ]
    run = audit(model, analyses, out=tmp_path / "run", tokens=512, window=64)
    expected = expected_of(
        Plain(model.net, "llama", lambda i: model.tokenizer.decode([i])), run, skip, 24, 16
    )
    wrong = [
        f"{name}/{key}: {np.asarray(found)}, by its formula {np.asarray(value)}"
        for name in run
        for key, value in expected[name].items()
        if not _close(found := run[name].findings.measurements[key].value, value)
    ]
    assert not wrong, "\n".join(wrong)


def _close(found: object, expected: object) -> bool:
    """True where every cell agrees within 1e-4 relative, and 1e-5 near 0; cells are missing in both or in neither."""
    try:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    except AssertionError:
        return False
    return True
