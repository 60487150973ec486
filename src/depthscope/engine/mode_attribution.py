"""What goes with the mode of a prompt: features, classifiers, states that agree, and changes that flip it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from depthscope.engine.cells import Items
from depthscope.engine.measured import states
from depthscope.engine.mode_findings import Prompts, in_cells
from depthscope.materials.prompt_variants import CHANGES
from depthscope.measures.separation import auc, false_discovery, rank_correlation, rank_sum_p
from depthscope.results.measurement import Measurement, Table

FOLDS = 5
NONE = "the entropies of this state are not called bimodal"
NEAREST = 5


def attributed(prompts: Prompts) -> list[Measurement]:
    """All measurements that ask why."""
    labels = {s: high for s in range(prompts.entropy.shape[2]) if (high := prompts.high(s)) is not None}
    return [_share(prompts, labels), _correlations(prompts), *_single(prompts, labels), *_joint(prompts, labels),
            _agreement(prompts, labels), _flips(prompts, labels)]  # fmt: skip


def exemplars(prompts: Prompts) -> Table:
    """The prompts nearest to the two means at the state with the largest dip among those with two modes."""
    signs = prompts.signs
    found = np.where(signs["bimodal"][:, 0, 0] == 1, signs["dip"][:, 0, 0], -1.0)
    rows: list[tuple[object, ...]] = []
    state = int(found.argmax())
    high = prompts.high(state)
    if high is not None:
        values = prompts.entropy[:, 0, state]
        for name, inside in (("low", ~high), ("high", high)):
            centre = np.median(values[inside])
            nearest = np.flatnonzero(inside)[
                np.argsort(np.abs(values[inside] - centre), kind="stable")[:NEAREST]
            ]
            rows += [
                (
                    state,
                    name,
                    values[k],
                    int(prompts.tokens[k]),
                    prompts.document[k],
                    prompts.label[k],
                    prompts.shown[k],
                )
                for k in nearest
            ]
    names = ("state", "side", "entropy", "tokens", "document", "label", "text")
    kinds = (np.int64, str, np.float64, np.int64, str, str, str)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return Table(
        {n: np.array(c, dtype=k) for n, c, k in zip(names, columns, kinds, strict=True)},
        "prompts nearest to the middle of each mode, at the state with the largest dip",
    )


def _correlations(prompts: Prompts) -> Measurement:
    """Rank correlation of the entropy with every feature, at every state."""
    depth = prompts.entropy.shape[2]
    matrix = _matrix(prompts)
    values = np.broadcast_to(prompts.entropy[:, 0, :, None], matrix.shape).reshape(len(matrix), -1)
    known = np.isfinite(matrix).all((0, 1))
    shape = (depth, matrix.shape[2])
    found = np.stack(
        [
            rank_correlation(
                values, np.nan_to_num(matrix).reshape(len(matrix), -1), prompts.unit, seed=prompts.facts.seed
            )
        ]
    )
    value, low, high = (np.where(known, part.reshape(shape), np.nan) for part in found[0])
    return _made(
        prompts, "feature_correlation", {**states(prompts.facts), "feature": np.array(list(prompts.features))},
        (value, low, high), "Spearman's, of the entropy (wei) with the feature, over prompts",
        "all prompts, or all entropies, are alike in this",
    )  # fmt: skip


def _matrix(prompts: Prompts) -> np.ndarray:
    """[prompt, state, feature]."""
    depth = prompts.entropy.shape[2]
    columns = [
        f if f.ndim == 2 else np.broadcast_to(f[:, None], (len(f), depth)) for f in prompts.features.values()
    ]
    return np.stack(columns, -1).astype(np.float64)


def _single(prompts: Prompts, labels: Mapping[int, np.ndarray]) -> list[Measurement]:
    """How well each feature alone tells the modes apart, and its q-value over all states and features."""
    matrix = _matrix(prompts)
    shape = matrix.shape[1:]
    cells: dict[tuple[int, ...], tuple[float, ...]] = {}
    for state, high in labels.items():
        for k in range(shape[1]):
            values = matrix[:, state, k]
            if np.isfinite(values).all() and np.ptp(values) > 0:
                told = auc(values, high, prompts.unit, seed=prompts.facts.seed)
                cells[state, k] = (*map(float, told), rank_sum_p(values, high))
    value, low, top, p = in_cells(shape, cells, 4)
    q = false_discovery(p.ravel()).reshape(shape)
    axes = {**states(prompts.facts), "feature": np.array(list(prompts.features))}
    said = "share of pairs in which the prompt of the high mode has the larger value"
    missing = f"{NONE}, or all prompts are alike in this"
    return [
        _made(prompts, "auc", axes, (value, low, top), said, missing),
        _made(
            prompts,
            "auc_q",
            axes,
            (q, None, None),
            "rank-sum test, false discoveries over all cells",
            missing,
            "probability",
        ),
    ]


def _joint(prompts: Prompts, labels: Mapping[int, np.ndarray]) -> list[Measurement]:
    """How well all features together tell the modes of fresh documents apart."""
    matrix = _matrix(prompts)
    found: list[Measurement] = []
    for name, kind in (("logistic_auc", "sparse logistic regression"), ("tree_auc", "a tree of depth 3")):
        cells: dict[tuple[int, ...], tuple[float, ...]] = {}
        for state, high in labels.items():
            scores = _held_out(matrix[:, state], high, prompts.unit, name, prompts.facts.seed)
            if scores is not None:
                cells[(state,)] = tuple(map(float, auc(scores, high, prompts.unit, seed=prompts.facts.seed)))
        parts = in_cells((matrix.shape[1],), cells, 3)
        said = f"{kind}, {FOLDS} folds of documents"
        found.append(
            _made(
                prompts,
                name,
                states(prompts.facts),
                (parts[0], parts[1], parts[2]),
                said,
                f"{NONE}, or a mode has too few documents",
            )
        )
    return found


def _held_out(
    features: np.ndarray, high: np.ndarray, units: np.ndarray, name: str, seed: int
) -> np.ndarray | None:
    """Probability of the high mode for each prompt from a model that never saw its document; None with too few."""
    fewest = min(len(np.unique(units[high])), len(np.unique(units[~high])))
    x = features[:, np.isfinite(features).all(0)]
    if fewest < FOLDS or not x.shape[1]:
        return None
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    sparse = LogisticRegression(solver="liblinear", l1_ratio=1.0, C=0.5, random_state=seed)
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, random_state=seed)
    model = make_pipeline(StandardScaler(), sparse if name == "logistic_auc" else tree)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    found = cross_val_predict(model, x, high, groups=units, cv=folds, method="predict_proba")
    return np.asarray(found)[:, 1]


def _agreement(prompts: Prompts, labels: Mapping[int, np.ndarray]) -> Measurement:
    """Whether two states put the same prompts together: adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    depth = prompts.entropy.shape[2]
    cells = {(a, b): (float(adjusted_rand_score(labels[a], labels[b])),) for a in labels for b in labels}
    (value,) = in_cells((depth, depth), cells, 1)
    axes = {**states(prompts.facts), "other_state": np.arange(depth)}
    return _made(
        prompts,
        "mode_agreement",
        axes,
        (value, None, None),
        "adjusted Rand index: 1 the same, 0 chance",
        NONE,
    )


def _share(prompts: Prompts, labels: Mapping[int, np.ndarray]) -> Measurement:
    """Share of prompts in the high mode, with an interval over documents: one odd document is no mode."""
    inside = np.full((len(prompts.entropy), prompts.entropy.shape[2]), np.nan)
    for state, high in labels.items():
        inside[:, state] = high
    said = "prompts above the threshold"
    return _mean(prompts, inside, "high_share", states(prompts.facts), said)


def _flips(prompts: Prompts, labels: Mapping[int, np.ndarray]) -> Measurement:
    """Share of the prompts of each mode that a change moves to the other."""
    shape = (len(prompts.entropy), prompts.entropy.shape[2], len(CHANGES), 2)
    flipped = np.full(shape, np.nan)
    for state, high in labels.items():
        limit = prompts.signs["threshold"][state, 0, 0]
        after = prompts.changed[:, :, state]
        moved = np.where(np.isnan(after), np.nan, (after > limit) != high[:, None])
        for side, inside in enumerate((~high, high)):
            flipped[inside, state, :, side] = moved[inside]
    axes = {**states(prompts.facts), "variant": np.array(CHANGES), "bucket": np.array(["low", "high"])}
    return _mean(prompts, flipped, "flip_share", axes, "of the prompts of that mode before the change")


def _mean(
    prompts: Prompts, values: np.ndarray, name: str, axes: Mapping[str, np.ndarray], note: str
) -> Measurement:
    """Mean over prompts with an interval over documents, and why cells are missing."""
    found = Items(prompts.unit, prompts.facts, 1, "prompts").mean(values, name, axes, "probability", note)
    why = NONE if prompts.enough else prompts.lacking
    return replace(found, missing=why if np.isnan(found.value).any() else "")


Parts = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


def _made(
    prompts: Prompts,
    name: str,
    axes: Mapping[str, np.ndarray],
    parts: Parts,
    note: str,
    missing: str,
    unit: str = "1",
) -> Measurement:
    value, low, high = parts
    units = np.where(np.isnan(value), 0, len(np.unique(prompts.unit)))
    items = np.where(np.isnan(value), 0, len(prompts.entropy))
    why = (
        (missing if prompts.enough or name == "feature_correlation" else prompts.lacking)
        if np.isnan(value).any()
        else ""
    )
    return Measurement(name, axes, value, unit, low, high, units, items, note, why)
