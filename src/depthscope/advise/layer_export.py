"""Export of one state of a model as a sentence-transformers folder, held to the vectors it stands for before it exists.

The folder appears whole or not at all: it is written under another name, loaded again by the library, compared with
the vectors of the whole model, and only then renamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from depthscope.advise.export import ABOUT, TOLERANCE
from depthscope.advise.layer_affine import Affine, fitted
from depthscope.advise.layer_card import encoder_card
from depthscope.advise.layer_modules import library, loaded, written
from depthscope.advise.layer_recipe import Recipe
from depthscope.engine.pooled import pooled
from depthscope.errors import BadInput, LawBroken
from depthscope.runtime.checkpoint import quiet
from depthscope.runtime.model import Model
from depthscope.store.atomic import write_json, write_text
from depthscope.store.growing import growing

PROBES = (
    "The committee will meet again on Thursday to discuss the new bridge across the river.",
    "Where can I change my card?",
    "Rain.",
    "She opened the letter, read it twice, put it back into its envelope and said nothing for the rest of the evening.",
    "Water boils at a lower temperature on a mountain because the pressure of the air is lower there.",
    "def area(width, height): return width * height",
    "明日の会議は午後三時からに変わりました。",
    "An orchestra of forty people can be heard in the square every summer.",
    "It was neither good nor bad.",
    "Prices rose by 3.5 % in 2019, by 1.2 % in 2020, and fell in the year after that.",
)
"""Texts of different lengths, whose vectors are compared where no others are given."""
BATCH = 16
ORDERED = 1 - 1e-6
"""Least rank correlation of the similarities of all pairs of texts, in float32."""


@dataclass(frozen=True)
class Proof:
    """What an exported encoder was held to, by the library that loads it.

    Args:
        difference: largest difference from the vectors of the whole model. batches: between batches of 1 and of
            `batch`. Both are relative to the largest value, or to 1 where that is smaller. order: Spearman
            correlation of the cosines of all pairs of texts, inside against outside. tolerance: of differences.
    """

    difference: float
    batches: float
    order: float
    tolerance: float
    texts: int
    batch: int = BATCH


@dataclass(frozen=True)
class Encoder:
    """A folder that loads with SentenceTransformer.

    Args:
        width: of its vectors. fitted_on: texts behind the affine map, 0 without. bytes: of the files with weights.
    """

    folder: Path
    recipe: Recipe
    checks: Proof
    width: int
    fitted_on: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The export as JSON."""
        return {**asdict(self), "folder": self.folder.name}


def export_encoder(
    model: Model,
    recipe: Recipe,
    out: str | Path,
    *,
    texts: Sequence[str] = (),
    probes: Sequence[str] = PROBES,
    findings: str = "",
) -> Encoder:
    """Write one state of a model as a folder of sentence-transformers that needs no code of its own.

    Args:
        out: a folder that does not exist yet. texts: without labels; an affine map is fitted on them. probes: texts
            whose vectors are compared. findings: Markdown for the model card.

    Raises:
        BadInput, UnknownName, Refused: what `Recipe.check`, `truncated` and `fitted` raise; BadInput for a folder that
        exists.
        MissingPackage: without sentence-transformers.
        LawBroken: when the loaded encoder gives other vectors; nothing is left behind.
        StoreFull, StoreError: when it cannot be written; nothing is left behind.
    """
    folder = Path(out)
    if folder.exists():
        raise BadInput(f"{folder} exists already; name a folder that does not, or remove it")
    recipe.check(model)
    library()
    affine = fitted(recipe.post, _inside(model, recipe, None, texts)) if recipe.post != "none" else None
    with growing(folder) as partial:
        written(model, recipe, affine, partial)
        checks = _held(model, recipe, affine, partial, probes)
        size = sum(path.stat().st_size for path in partial.rglob("*.safetensors"))
        width = model.anatomy.d_model if affine is None else len(affine.bias)
        found = Encoder(folder, recipe, checks, width, 0 if affine is None else affine.texts, size)
        write_json(partial / ABOUT, {"base": _base(model), **found.as_dict()})
        write_text(partial / "README.md", encoder_card(model, found, findings))
    return found


def inside(model: Model, recipe: Recipe, affine: Affine | None, texts: Sequence[str]) -> np.ndarray:
    """The vectors [text, width] that an encoder should give, made by the whole model."""
    found = _inside(model, recipe, affine, texts)
    lengths = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found / lengths if recipe.unit else found


def _inside(model: Model, recipe: Recipe, affine: Affine | None, texts: Sequence[str]) -> np.ndarray:
    found = pooled(
        model, texts, recipe.pooling, norm=recipe.norm, max_tokens=recipe.max_tokens, upto=recipe.state
    ).vectors[-1]
    return found if affine is None else affine(found)


def _held(model: Model, recipe: Recipe, affine: Affine | None, partial: Path, probes: Sequence[str]) -> Proof:
    """The checks of a written encoder.

    Raises:
        LawBroken: when one of them fails.
    """
    wanted = inside(model, recipe, affine, probes)
    net = loaded(partial, model.device.type)
    with quiet():
        alone, together = (
            np.asarray(net.encode(list(probes), batch_size=size, show_progress_bar=False), np.float64)
            for size in (1, BATCH)
        )
    tolerance = TOLERANCE[model.dtype]
    scale = max(1.0, float(np.abs(wanted).max()))
    checks = Proof(
        float(np.abs(alone - wanted).max()) / scale, float(np.abs(alone - together).max()) / scale,
        _order(wanted, alone), tolerance, len(probes)
    )  # fmt: skip
    ordered = ORDERED if tolerance <= 1e-5 else 1 - 100 * tolerance
    if not max(checks.difference, checks.batches) <= tolerance or not checks.order >= ordered:
        raise LawBroken(
            f"the encoder cut from {model.name} gives other vectors than its state {recipe.state}: they differ by "
            f"{checks.difference:.3g} (batches of 1 and {BATCH} by {checks.batches:.3g}, accepted {tolerance:.3g} of "
            f"the largest value; rank correlation of similarities {checks.order:.6f}). Nothing was written"
        )
    return checks


def _order(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman correlation of the cosines of all pairs; 1 where there are fewer than 3 pairs."""
    from scipy.stats import spearmanr

    above = np.triu_indices(len(first), 1)
    if len(above[0]) < 3:
        return 1.0
    sides = []
    for vectors in (first, second):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        sides.append(np.round((unit @ unit.T)[above], 6))
    found = float(cast(Any, spearmanr(*sides)).statistic)
    return 1.0 if np.isnan(found) else found


def _base(model: Model) -> dict[str, Any]:
    keys = ("name", "revision", "weights_hash", "license")
    return {key: model.provenance.get(key) for key in keys} | {"layers": model.anatomy.n_layers}
