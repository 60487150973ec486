"""Texts that carry their name in letters that noise spares; scores against formulas over transformers' own states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from planted import TOKEN, look, planted, value
from torch import Tensor

from depthscope.analyses.augmentation_invariance import AugmentationInvariance
from depthscope.engine.audit import audit
from depthscope.errors import BadInput, UnknownName
from depthscope.runtime.tiny import tiny

SPARED = "\u0112\u0113"
"""Two letters whose ids, 33 and 34, no random character and no slip of the finger has."""
COUNTS = ((1, 1), (1, 9), (9, 1), (9, 9), (5, 1), (5, 9), (1, 5), (9, 5))
FILLER = "lorem ipsum dolor amet consectetur adipiscing elitsed eiusmod"


def named_texts() -> list[str]:
    """The same long words in every text, and its name: short words, which noise leaves alone."""
    names = [" ".join(SPARED[0] * a) + " " + " ".join(SPARED[1] * b) for a, b in COUNTS]
    return [f"{FILLER} {name}" for name in names]


def written(tmp_path: Path, texts: list[str]) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return str(path)


def all_but_the_name(x: Tensor) -> Tensor:
    """Erases every token that is not a letter of a name."""
    spared = x[..., TOKEN][..., 33:35].sum(-1, keepdim=True)
    return -x * (1 - spared)


def everything(x: Tensor) -> Tensor:
    return -x


def test_a_layer_that_erases_what_noise_touches_makes_every_view_find_its_partner(tmp_path: Path) -> None:
    asked = AugmentationInvariance(written(tmp_path, named_texts()), texts=8, views=3, words=60)
    found = look(
        planted({1: all_but_the_name, 3: everything}, 4), asked, tmp_path, ["some text for the run's window"]
    )
    top1, positive = (value(found, name)[:, 0] for name in ("partner_top1", "positive_cosine"))
    assert top1[2] == top1[3] == 1
    assert positive[2] > 0.99 > positive[0] + 0.02
    loss = value(found, "infonce_loss")[:, 0, 0]
    assert loss[2] == pytest.approx(loss[3])
    assert loss[2] < loss[0] == pytest.approx(loss[1])
    # the two letters of the names leave two directions
    assert 1 < value(found, "lidar")[2, 0] < 2.01 < value(found, "lidar")[0, 0]
    # shuffled groups know nothing of the names
    assert value(found, "partner_top1")[2, 1] < 0.7
    assert value(found, "dime")[2, 0] > value(found, "dime")[2, 1] + 0.1
    # behind the layer that erases all of it there is nothing to compare
    for name in ("infonce_loss", "partner_top1", "lidar", "dime"):
        assert np.isnan(value(found, name)[4]).all(), name
        assert "all alike" in found[name].missing
    assert found["changed_share"].scalar() == 1


def test_texts_that_noise_cannot_change_have_equal_views(tmp_path: Path) -> None:
    texts = ["a bc def " + " ".join("xyz"[: k % 3 + 1] * (k + 1)) for k in range(9)]
    asked = AugmentationInvariance(written(tmp_path, texts), texts=9, views=2, words=8)
    found = look(tiny("llama"), asked, tmp_path, ["some text for the run's window"])
    assert found["changed_share"].scalar() == 0
    np.testing.assert_allclose(value(found, "positive_cosine")[:, 0], 1)
    assert (value(found, "partner_top1")[:, 0] == 1).all()
    # texts differ and their views do not: no unit to measure in
    assert np.isnan(value(found, "lidar")[:, 0]).all()
    assert np.isfinite(value(found, "lidar")[:, 1]).all()


def slow(views: np.ndarray) -> dict[str, float]:
    """The formulas over [text, view, d], one text at a time."""
    n, q, d = views.shape
    rows = views.reshape(-1, d) - views.reshape(-1, d).mean(0)
    x = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).reshape(n, q, d)
    a, b = x[:, 0], x[:, 1]
    ways = [np.exp(one @ other.T / 0.1) for one, other in ((a, b), (b, a))]
    loss = np.mean([-np.log(way[i, i] / way[i].sum()) for way in ways for i in range(n)])
    mu = x.mean(1)
    between = sum(np.outer(m, m) for m in mu - mu.mean(0)) / n
    within = sum(np.outer(v - mu[i], v - mu[i]) for i in range(n) for v in x[i]) / (n * q)
    within += 1e-4 * np.trace(within) / d * np.eye(d)
    p = np.clip(np.linalg.eigvals(np.linalg.solve(within, between)).real, 0, None)
    share = p[p > 1e-14] / p.sum()
    k, other = a @ a.T, b @ b.T
    apart = [(m**2).sum() - (np.diag(m) ** 2).sum() for m in (k, other)]
    mixed = (n + apart[0] * apart[1] / (n * (n - 1))) / n**2
    return {
        "infonce_loss": loss, "partner_top1": np.mean([way[i].argmax() == i for way in ways for i in range(n)]),
        "positive_cosine": np.mean([a[i] @ b[i] for i in range(n)]),
        "negative_cosine": np.mean([a[i] @ b[j] for i in range(n) for j in range(n) if i != j]),
        "lidar": float(np.exp(-(share * np.log(share)).sum())), "lidar_mean_eigenvalue": p.sum() / d,
        "dime_2": -np.log(mixed) + np.log(((k * other) ** 2).sum() / n**2),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_equal_the_formulas_over_states_of_transformers(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=3)
    texts = [f"number {k} stands before another wording, {'very ' * k}plain" for k in range(10)]
    asked = AugmentationInvariance(written(tmp_path, texts), texts=10, views=5, words=6)
    run = audit(model, [asked], out=tmp_path / "run", text=texts, tokens=64, window=32)
    rows = pq.read_table(tmp_path / "run" / "inputs" / "views.parquet").to_pylist()
    pooled = []
    for row in rows:
        with torch.no_grad():
            seen = model.net(torch.tensor([list(row["ids"])]), output_hidden_states=True).hidden_states
        pooled.append(np.stack([h[0].mean(0).numpy() for h in seen[:-1]]))
    views = np.stack(pooled).reshape(10, 5, len(pooled[0]), -1)
    result = run["augmentation_invariance"]
    for state in range(views.shape[2]):
        for name, expected in slow(views[:, :, state]).items():
            mode = {"mode": "symmetric"} if name == "infonce_loss" else {}
            cell = result[name].select(state=state, variant="views", **mode).value
            np.testing.assert_allclose(cell, expected, rtol=2e-3, atol=2e-4, err_msg=f"{name} at {state}")


def test_a_text_with_a_view_that_broke_is_left_out_whole(tmp_path: Path) -> None:
    from depthscope.engine.tally import Vectors
    from depthscope.engine.view_scores import MOST, Grouped

    keys = np.array([0, 1, MOST, 2 * MOST, 2 * MOST + 1], np.uint64)
    values = np.arange(5)[:, None, None] * np.ones((1, 3, 2))
    stored = Vectors.of(keys, [f"d{k // MOST}" for k in keys.tolist()], values)
    found = Grouped.of(stored, 2)
    assert found.units == ("d0", "d2")
    assert found.vectors.shape == (3, 2, 2, 2)
    assert found.vectors[0, :, :, 0].tolist() == [[0, 1], [3, 4]]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"views": 1}, BadInput, r"views=1 \(views of a text\) must be at least 2 and below 1000"),
        ({"pooling": "meen"}, UnknownName, "mean"),
        ({"temperature": 0.0}, BadInput, "temperature=0.0 must be above 0"),
        ({"draws": 0}, BadInput, "draws=0 must be 1 or more"),
        ({"delta": -1.0}, BadInput, r"delta=-1\.0 must be 0 or more"),
    ],
)
def test_wrong_parameters_are_told(given: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        AugmentationInvariance(**given)
