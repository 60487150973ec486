"""The encoder of a finished choice: exported, loaded again, and scored on the items kept back as the choice was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.advise.layer import NAME, ChooseLayer
from depthscope.advise.layer_affine import fitted
from depthscope.advise.layer_export import Encoder, export_encoder, inside
from depthscope.advise.layer_findings import CHOICE
from depthscope.advise.layer_modules import loaded
from depthscope.advise.layer_recipe import Recipe
from depthscope.advise.layer_task import parts
from depthscope.engine.task_scores import scored
from depthscope.runtime.checkpoint import quiet
from depthscope.runtime.model import Model
from depthscope.store.atomic import write_json
from depthscope.store.run import Run

ENCODER = "encoder.json"
"""Where in the run folder's artefacts it says what was exported."""
PROBES = 32


@dataclass(frozen=True)
class Served:
    """An exported encoder and what it scores.

    Args:
        inside: on the items kept back, by the whole model. outside: by the encoder, loaded with sentence-transformers.
    """

    encoder: Encoder
    metric: str
    inside: float
    outside: float

    def as_json(self) -> dict[str, Any]:
        """What is known of it, as JSON."""
        return {**self.encoder.as_dict(), "path": str(self.encoder.folder), "metric": self.metric,
                "inside": self.inside, "outside": self.outside}  # fmt: skip


def recipe_of(run: Run, post: str = "none", unit: bool = False) -> Recipe:
    """The recipe that a finished choice stands for."""
    found = run[NAME].findings.artefacts[CHOICE]
    cut = int(run[NAME].parameters["max_tokens"])
    return Recipe(int(found["state"]), str(found["pooling"]), bool(found["norm"]), post, unit, cut)


def export_choice(
    run: Run, model: Model, out: str | Path, *, post: str = "none", unit: bool = False
) -> Served:
    """Export what a run chose; an affine map behind pooling is fitted on the texts that chose, without their labels.

    Raises:
        What `export_encoder` raises.
    """
    recipe, found = recipe_of(run, post, unit), run[NAME]
    study = ChooseLayer(
        **{k: v for k, v in found.parameters.items() if k in ChooseLayer.__dataclass_fields__}
    )
    both = parts(study.loaded(), int(run.manifest.get("seed", 0)))
    texts, part = both.choosing.texts, both.reporting
    said = "\n".join(f"- {line}" for line in found.findings.notes)
    encoder = export_encoder(model, recipe, out, texts=texts, probes=part.texts[:PROBES], findings=said)
    metric, seed = str(found.findings.artefacts[CHOICE]["metric"]), int(run.manifest.get("seed", 0))
    plain = Recipe(recipe.state, recipe.pooling, recipe.norm, "none", False, recipe.max_tokens)
    affine = fitted(post, inside(model, plain, None, texts)) if post != "none" else None
    with quiet():
        outer = np.asarray(
            loaded(encoder.folder, model.device.type).encode(list(part.texts), show_progress_bar=False),
            np.float32,
        )
    both_sides = np.stack([inside(model, recipe, affine, part.texts), outer])
    score = scored(part, both_sides, (metric,), seed=seed)[0].score()
    served = Served(encoder, metric, float(score[0]), float(score[1]))
    (run.path / "artefacts").mkdir(exist_ok=True)
    write_json(run.path / "artefacts" / ENCODER, served.as_json())
    return served
