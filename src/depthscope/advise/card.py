"""What stands beside the weights of an exported model: its card and a mergekit recipe, both as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import depthscope

if TYPE_CHECKING:
    from depthscope.advise.export import Exported
    from depthscope.runtime.model import Model

LIMITS = """\
- Nothing was trained after the removal: no healing, no fine-tuning.
- Loss on text and answers of a task are different things: arithmetic goes before facts do, and a text loss near the
  original's says nothing of it. What was not verified is not known.
- Safety behaviour, refusals, tool formats and long outputs were not tested.
- Quantisation after the removal was not tested."""


def model_card(model: Model, found: Exported, findings: str) -> str:
    """The card of an exported model, Markdown with the header that model hubs read."""
    licence = model.provenance.get("license")
    head = [
        "---",
        f"base_model: {_yaml(model.name)}",
        *([f"license: {_yaml(str(licence).lower())}"] if licence else []),
    ]
    head += ["library_name: transformers", "pipeline_tag: text-generation", "tags: [depth-pruned]", "---", ""]
    checks = found.checks
    depth = model.anatomy.n_layers
    body = [
        f"# {model.name}, {len(found.kept)} of {depth} layers",
        "",
        f"Removed (numbers of the original, from 0): {', '.join(map(str, found.removed)) or 'none'}.",
        f"Kept: {spans(found.kept)}.",
        *_preview(found),
        "",
        "It loads with `transformers.AutoModelForCausalLM.from_pretrained`, without any code of its own.",
        "",
        "## What it costs",
        "",
        findings.strip() or "Not measured: no text was read and no task was asked when this was exported.",
        "",
        "## What was checked",
        "",
        f"Loaded again from these files, its logits on {len(checks.prompts)} prompts of {_listed(checks.prompts)} "
        f"tokens differ from those of the original with the same layers skipped by at most {checks.logits:.2g} of the "
        f"largest logit (accepted: {checks.tolerance:.2g}); {checks.tokens} tokens written with the cache are those "
        f"that reading without it gives, to {checks.cached:.2g}.",
        "",
        "## Limits",
        "",
        LIMITS,
        "",
        f"Made by depthscope {depthscope.__version__} from weights "
        f"{str(model.provenance.get('weights_hash') or 'of unknown hash')[:16]}; see depthscope.json. mergekit.yml "
        "says the same removal in mergekit's words.",
        "",
    ]
    return "\n".join([*head, *body])


def recipe(name: str, kept: Sequence[int], dtype: str) -> str:
    """A mergekit recipe that gives the same layers, as documentation; of each range the upper end is not included."""
    lines = [
        "# The same removal as a mergekit recipe; these weights need no merging.",
        "# layer_range is half open: [0, 12] are layers 0 to 11.",
        "merge_method: passthrough",
        f"dtype: {dtype}",
        "slices:",
    ]
    for first, last in _runs(kept):
        lines += [
            "  - sources:",
            f"      - model: {_yaml(name)}",
            f"        layer_range: [{first}, {last + 1}]",
        ]
    return "\n".join([*lines, ""])


def spans(layers: Sequence[int]) -> str:
    """Layers as ranges: 0-11, 13."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in _runs(layers))


def _runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive layers."""
    runs = (list(group) for _, group in groupby(enumerate(layers), lambda pair: pair[1] - pair[0]))
    return [(run[0][1], run[-1][1]) for run in runs]


def _preview(found: Exported) -> list[str]:
    if not found.zeroed:
        return []
    said = ", ".join(f"{word} of layer {layer}" for layer, word in found.zeroed)
    return [
        "",
        f"**Quality preview.** The output projections of {said} are zero: this shows what the model is like without "
        "these sublayers. It is neither smaller nor quicker: no ordinary checkpoint has blocks without them.",
    ]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
