"""Sets of pooled vectors that were drawn by hand, and every metric against its formula in numpy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from formulas import Plain, numbers
from planted import LENGTH, SLOT, V, axis, constant, look, planted, rising, text_of, value

from depthscope.analyses.dataset_geometry import DatasetGeometry
from depthscope.engine.audit import audit
from depthscope.engine.jackknife import jackknifed
from depthscope.engine.set_geometry import counts, places, spectrum_of_mode
from depthscope.errors import BadInput, UnknownName
from depthscope.measures.geometry import cosine_anisotropy
from depthscope.runtime.tiny import tiny

WEI, UNCENTRED, UNIT, CENTRED = range(4)
ORTHOGONAL = [text_of([20 + k] * LENGTH) for k in range(12)]
"""Texts of one token each: their vectors stand at right angles."""


def entropy(p: np.ndarray) -> float:
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


def test_texts_at_right_angles_fill_as_many_directions_as_there_are(tmp_path: Path) -> None:
    result = look(planted({}), "dataset_geometry", tmp_path, ORTHOGONAL)
    n = len(ORTHOGONAL)
    found = value(result, "dataset_entropy")
    np.testing.assert_allclose(found[:, [UNCENTRED, UNIT]], 1)
    np.testing.assert_allclose(found[:, [WEI, CENTRED]], math.log(n - 1) / math.log(n))
    for name in ("effective_rank", "participation_ratio"):
        np.testing.assert_allclose(value(result, name)[:, UNIT], n, rtol=1e-5)
        np.testing.assert_allclose(value(result, name)[:, CENTRED], n - 1, rtol=1e-5)
    np.testing.assert_allclose(value(result, "nesum"), n - 1, rtol=1e-5)
    np.testing.assert_allclose(value(result, "spectral_anisotropy"), 1 / (n - 1), rtol=1e-5)
    np.testing.assert_allclose(value(result, "cosine_anisotropy"), 0, atol=1e-7)
    np.testing.assert_allclose(value(result, "uniformity"), -4, rtol=1e-6)
    # ||U U^T||^2 = n; E = n + n (n - 1) / 192
    chance = n + n * (n - 1) / (3 * V)
    np.testing.assert_allclose(value(result, "self_cluster"), (n - chance) / (n * n - chance), rtol=1e-5)
    assert result["dataset_entropy"].n_items is not None
    assert (result["dataset_entropy"].n_items == n).all()


def test_one_shared_direction_is_anisotropy_and_no_loss_of_variety(tmp_path: Path) -> None:
    # a vector of length 10 beside two unit entries: cosine 100 / 102
    model = planted({2: constant(axis(SLOT.start, 10.0))})
    result = look(model, "dataset_geometry", tmp_path, ORTHOGONAL)
    n, after = len(ORTHOGONAL), slice(3, None)
    np.testing.assert_allclose(value(result, "cosine_anisotropy")[after], 100 / 102, rtol=1e-6)
    np.testing.assert_allclose(value(result, "dataset_entropy")[after, WEI], math.log(n - 1) / math.log(n))
    p = np.array([100 * n + 2, *[2.0] * (n - 1)])
    np.testing.assert_allclose(
        value(result, "dataset_entropy")[after, UNCENTRED], entropy(p) / math.log(n), rtol=1e-5
    )
    np.testing.assert_allclose(value(result, "outlier_share")[after], 100 / 102, rtol=1e-6)


def test_texts_that_are_read_twice_count_once(tmp_path: Path) -> None:
    result = look(planted({}), DatasetGeometry(modes=("unit",)), tmp_path, [*ORTHOGONAL, *ORTHOGONAL[:4]])
    assert result["duplicates"].scalar() == 4
    np.testing.assert_allclose(value(result, "effective_rank")[:, 0], len(ORTHOGONAL), rtol=1e-5)


def test_equal_vectors_have_no_geometry_and_say_why(tmp_path: Path) -> None:
    # other ids at each place, the same mean: the ring read from different starts
    texts = [text_of([3 + (k + p) % LENGTH for p in range(LENGTH)]) for k in range(8)]
    result = look(planted({}), "dataset_geometry", tmp_path, texts)
    found = result["dataset_entropy"]
    assert np.isnan(found.value[:, [WEI, CENTRED]]).all()
    np.testing.assert_allclose(found.value[:, [UNCENTRED, UNIT]], 0, atol=1e-6)
    assert "fewer than two different vectors" in found.missing
    np.testing.assert_allclose(value(result, "cosine_anisotropy"), 1)
    assert np.isnan(value(result, "intrinsic_dimension")).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_metric_is_its_formula(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=4)
    texts = [f"{chr(97 + k)}{k * 7} boats and {k * k + 3} birds" for k in range(22)]
    modes = ("wei", "uncentred", "unit", "centred", "reference", "tokenwise")
    analysis = DatasetGeometry(modes=modes, final_norm=True)
    run = audit(model, [analysis], out=tmp_path / "run", text=texts, tokens=10**6, window=64)
    result = run["dataset_geometry"]
    plain, rows = Plain(model.net, kind), pq.read_table(run.path / "inputs" / "text.parquet").to_pylist()
    passes = [plain.run(row["ids"]) for row in rows]
    norm = plain.base.ln_f if kind == "gpt2" else plain.base.norm
    for state in range(model.anatomy.n_layers + 1):
        tokens = [numbers(p.states[state]) for p in passes]
        expected = by_formula(
            np.stack([t.mean(0) for t in tokens]), np.stack([directions(t) for t in tokens])
        )
        for name, numbers_of in expected.items():
            found = result[name].select(state=state).value
            np.testing.assert_allclose(found, numbers_of, rtol=2e-4, atol=2e-5, err_msg=name)
        with torch.no_grad():
            after = np.stack([numbers(norm(p.states[state])).mean(0) for p in passes])
        u = after / np.linalg.norm(after, axis=1, keepdims=True)
        cosine = (np.square(u.sum(0)).sum() - len(u)) / (len(u) * (len(u) - 1))
        np.testing.assert_allclose(
            result["normed_cosine_anisotropy"].select(state=state).value, cosine, rtol=1e-4
        )


def directions(tokens: np.ndarray) -> np.ndarray:
    """Mean of centred unit tokens."""
    tokens = tokens - tokens.mean(0)
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).mean(0)


def clamped(z: np.ndarray) -> np.ndarray:
    k = z @ z.T if len(z) <= z.shape[1] else z.T @ z
    values = np.linalg.eigvalsh(np.maximum(k, 0))
    return np.maximum(values, 0)


def by_formula(z: np.ndarray, tokenwise: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of one state as a paper would write them."""
    n, d = z.shape
    centred = z - z.mean(0)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    wei = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    prepared = (wei, z, unit, centred)
    spectra = [np.linalg.svd(x, compute_uv=False) ** 2 for x in prepared] + [clamped(wei), clamped(tokenwise)]
    sigma, variance = np.sqrt(spectra[1]), np.sort(spectra[3])[::-1] / spectra[3].sum()
    apart = np.linalg.norm(unit[:, None] - unit[None], axis=-1)[~np.eye(n, dtype=bool)]
    between = np.linalg.norm(z[:, None] - z[None], axis=-1) + np.diag([np.inf] * n)
    mu = np.sort(between, 1)[:, 1] / np.sort(between, 1)[:, 0]
    chance = n + n * (n - 1) / d
    energy = (z**2).mean(0)
    return {
        "dataset_entropy": np.array([entropy(p) for p in spectra]) / math.log(min(n, d)),
        "effective_rank": np.exp([entropy(np.sqrt(p)) for p in spectra]),
        "participation_ratio": np.array([p.sum() ** 2 / (p**2).sum() for p in spectra]),
        "rankme": np.exp(-sum(p * math.log(p) for p in sigma / sigma.sum() + 1e-7)),
        "nesum": 1 / variance[0],
        "spectral_anisotropy": variance[0],
        "cosine_anisotropy": 1 - (apart**2).mean() / 2,
        "uniformity": math.log(np.exp(-2 * apart**2).mean()),
        "self_cluster": (((unit @ unit.T) ** 2).sum() - chance) / (n * n - chance),
        "outlier_share": energy.max() / energy.sum(),
        "outlier_dimensions": (np.sqrt(energy) > 6 * np.sort(np.sqrt(energy))[(d - 1) // 2]).sum(),
        "kurtosis": ((centred**4).mean(0) / (centred**2).mean(0) ** 2 - 3).max(),
        "decay": decays(variance, d),
        "intrinsic_dimension": np.array([slope(mu), n / np.log(mu).sum()]),
    }


def decays(variance: np.ndarray, d: int) -> np.ndarray:
    found = []
    for first, last in ((11, 50), (1, d // 2)):
        kept = variance[first - 1 : last]
        kept = kept[kept > kept.max() * 1e-12]
        found.append(-np.polyfit(np.log(np.arange(first, first + len(kept))), np.log(kept), 1)[0])
    return np.array(found)


def slope(mu: np.ndarray) -> float:
    mu = np.sort(mu)
    kept = int(len(mu) * 0.9)
    x, y = np.log(mu[:kept]), -np.log1p(-np.arange(1, kept + 1) / len(mu))
    return float((x * y).sum() / (x * x).sum())


def test_intervals_of_normal_vectors_hold_what_many_more_would_say() -> None:
    # anisotropy of normal vectors around a mean of length 1 in 16 dimensions; the truth from 40,000 of them
    random = np.random.default_rng(1)
    mean = np.zeros(16)
    mean[0] = 2.0
    many = random.normal(size=(40_000, 16)) + mean
    unit = many / np.linalg.norm(many, axis=1, keepdims=True)
    truth = np.square(unit.mean(0)).sum()
    held = 0
    for _ in range(60):
        few = torch.from_numpy(random.normal(size=(48, 16)) + mean)
        _, low, high = jackknifed(
            lambda kept, few=few: cosine_anisotropy(few[kept]).numpy()[None], list(map(str, range(48)))
        )
        held += bool(low <= truth <= high)
    assert 52 <= held <= 60


def test_subsamples_double_and_places_of_a_spectrum_grow_by_powers() -> None:
    assert counts(10) == (10,)
    assert counts(100) == (16, 32, 64, 100)
    assert places(30, 8)[0] == 1
    assert places(30, 8)[-1] == 8
    assert len(places(2000, 576)) < 30


def test_pairs_of_texts_are_a_mode_that_only_repeats_published_code() -> None:
    vectors = torch.randn(40, 24, dtype=torch.float64) + 20 * torch.randn(24, dtype=torch.float64)
    u = (vectors[0::2] - vectors[1::2]).numpy()
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    pairs = np.stack([u, -u], 1).reshape(-1, 24)
    found = spectrum_of_mode(vectors, None, "batch2").numpy()
    expected = np.sort(clamped(pairs))[::-1]
    np.testing.assert_allclose(found[:24], expected / expected.sum(), atol=1e-9)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"pooling": "maen"}, "mean"),
        ({"modes": ("wie",)}, "wei"),
        ({"normalisation": "maxentropy"}, "maxEntropy"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(given: dict[str, object], named: str) -> None:
    with pytest.raises(UnknownName, match=named):
        DatasetGeometry(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"alpha": -1.0}, {"texts": 1}, {"modes": ()}])
def test_impossible_parameters_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"must be (0|2) or more|modes is empty"):
        DatasetGeometry(**given)  # type: ignore[arg-type]


def test_a_rising_text_is_not_empty_and_few_texts_are_noted(tmp_path: Path) -> None:
    result = look(planted({}), DatasetGeometry(modes=("wei",), texts=5), tmp_path, rising())
    assert result["dataset_entropy"].n_items is not None
    assert (result["dataset_entropy"].n_items == 5).all()
    assert "5 different texts" in result.findings.notes[0]
