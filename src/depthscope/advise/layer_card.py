"""The model card of an exported encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import depthscope

if TYPE_CHECKING:
    from depthscope.advise.layer_export import Encoder
    from depthscope.runtime.model import Model

USE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
vectors = model.encode(["A first text.", "A second one."])
```"""
LIMITS = """\
- Nothing was trained: these are the states of the base model, cut short.
- The layer was judged by one task and its texts. Another task may want another layer.
- Rights and limits of the base model hold for this one too."""


def encoder_card(model: Model, found: Encoder, findings: str) -> str:
    """The card, Markdown with the header that model hubs read."""
    licence, recipe = model.provenance.get("license"), found.recipe
    checks, depth = found.checks, model.anatomy.n_layers
    behind = {"none": "nothing"}.get(
        recipe.post, f"{recipe.post}, fitted on {found.fitted_on} texts without labels"
    )
    head = [
        "---",
        f"base_model: {_quoted(model.name)}",
        *([f"license: {_quoted(str(licence).lower())}"] if licence else []),
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags: [sentence-transformers, feature-extraction, truncated]",
        "---",
        "",
    ]
    body = [
        f"# {model.name}, state {recipe.state} of {depth}",
        "",
        f"Texts become vectors of width {found.width} after {recipe.state} of {depth} blocks of {model.name} "
        f"(revision {model.provenance.get('revision') or 'not known'}, weights "
        f"{str(model.provenance.get('weights_hash') or 'of unknown hash')[:16]}).",
        "",
        f"- final norm: {'on' if recipe.norm else 'off'}; pooling: {recipe.pooling}; behind it: {behind}; scaled to "
        f"length 1: {'yes' if recipe.unit else 'no'}",
        f"- texts are cut at {recipe.max_tokens} tokens; the files hold {found.bytes:,} bytes of weights",
        "",
        "## Use",
        "",
        USE,
        "",
        "## What was measured",
        "",
        findings.strip() or "Nothing: no task was asked when this was exported.",
        "",
        "## What was checked",
        "",
        f"Loaded again from these files, the vectors of {checks.texts} texts differ from those inside the model by "
        f"at most {checks.difference:.2g} of the largest value (accepted: {checks.tolerance:.2g}), batches of 1 from "
        f"those of {checks.batch} by {checks.batches:.2g}; the similarities of all pairs keep their order (rank "
        f"correlation {checks.order:.6f}).",
        "",
        "## Limits",
        "",
        LIMITS,
        "",
        f"Made by depthscope {depthscope.__version__}; see depthscope.json.",
        "",
    ]
    return "\n".join([*head, *body])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
