"""The configuration of a model with fewer layers: every value in it that speaks of layers, translated or refused.

What a rule misses cannot pass unseen: an exported model is loaded again and its logits are compared (advise/export.py).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from depthscope.errors import Refused

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks", "num_decoder_layers")
"""Keys that hold the number of layers."""
INDICES = (
    "mlp_only_layers", "hybrid_layer_ids", "full_attn_idxs", "attn_layer_indices", "slstm_at", "moe_layers",
    "cross_attention_layers", "ple_layer_ids",
)  # fmt: skip
"""Keys that list layers by number."""
THRESHOLDS = ("first_k_dense_replace", "max_window_layers", "num_dense_layers")
"""Keys that say of how many first layers something holds."""
PERIODS = (("attn_layer_period", "attn_layer_offset"), ("expert_layer_period", "expert_layer_offset"))
"""Keys of a rule `layer % period == offset`."""
INTERVALS = {
    "full_attention_interval": "layer_types", "sliding_window_pattern": "layer_types",
    "global_attn_every_n_layers": "layer_types", "no_rope_layer_interval": "no_rope_layers",
    "interleave_moe_layer_step": "moe_layers", "moe_layer_freq": "mlp_layer_types",
}  # fmt: skip
"""Keys of a rule `every n-th layer`, with the list that takes their place where a model has it."""
SAME_FOR_ALL = frozenset({
    "architectures", "time_step_limit", "mlp_multipliers", "ssm_multipliers", "block_types", "eos_token_id",
    "mrope_section", "stage_names", "out_features", "out_indices",
})  # fmt: skip
"""Lists that do not speak of layers, however long they are."""


def reduced(config: Any, kept: Sequence[int], depth: int) -> Any:  # noqa: ANN401  (a transformers configuration)
    """A copy of a configuration that describes the kept layers only.

    Args:
        kept: layers that stay, ascending. depth: layers that there are.

    Raises:
        Refused: where a rule of the architecture cannot express the layers that would be left; the reason says which.
    """
    found = copy.deepcopy(config)
    _refuse(config, kept, depth)
    dense = _dense(config, depth)
    for key in [k for k in vars(config) if not k.startswith("_")]:
        value = getattr(config, key)
        if key in COUNTS and value == depth:
            setattr(found, key, len(kept))
        elif key in INDICES and isinstance(value, list | tuple):
            setattr(found, key, [kept.index(k) for k in value if k in kept])
        elif key in THRESHOLDS and isinstance(value, int):
            setattr(found, key, sum(k < value for k in kept))
        elif key not in SAME_FOR_ALL and isinstance(value, list | tuple) and len(value) == depth:
            setattr(found, key, [value[k] for k in kept])
    _periodic(found, config, kept, depth)
    if getattr(config, "block_types", None):
        found.block_types = [_cycled(config.block_types, k) for k in kept]
    if dense is not None:
        found.decoder_sparse_step = 1
        found.mlp_only_layers = [new for new, old in enumerate(kept) if old in dense]
    if hasattr(config, "scale_depth"):
        found.scale_depth = config.scale_depth * math.sqrt(len(kept) / depth)
    if hasattr(found, "quantization_config"):
        del found.quantization_config
    return found


def _cycled(pattern: Sequence[str], layer: int) -> str:
    return pattern[layer % len(pattern)]


def _refuse(config: Any, kept: Sequence[int], depth: int) -> None:  # noqa: ANN401
    kind, removed = config.model_type, [k for k in range(depth) if k not in kept]
    if getattr(config, "num_kv_shared_layers", 0):
        raise Refused(
            f"{kind} shares keys and values between layers (num_kv_shared_layers = {config.num_kv_shared_layers}): "
            "a layer that others read from cannot be told from one that nobody needs"
        )
    hybrid = [k for k in removed if k in (getattr(config, "hybrid_layer_ids", None) or ())]
    if hybrid:
        raise Refused(
            f"layers {hybrid} of {kind} call the shared transformer, whose adapters are numbered by these calls; "
            "remove only layers that do not call it"
        )
    for key, explicit in INTERVALS.items():
        if (getattr(config, key, None) or 1) != 1 and getattr(config, explicit, None) is None:
            raise Refused(
                f"{kind} places its kinds of layers by {key} = {getattr(config, key)} and has no list {explicit!r} "
                "that could say it of the layers that are left"
            )
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and kind != "gpt2":
        raise Refused(
            f"{kind} scales attention by the number of the layer; only for gpt2 is it known how to undo that"
        )


def _dense(config: Any, depth: int) -> list[int] | None:  # noqa: ANN401
    """Layers without experts by the rule of decoder_sparse_step; None where there is no such rule."""
    step = getattr(config, "decoder_sparse_step", None)
    if step is None:
        return None
    named = getattr(config, "mlp_only_layers", None) or []
    return [k for k in range(depth) if k in named or (k + 1) % step]


def _periodic(found: Any, config: Any, kept: Sequence[int], depth: int) -> None:  # noqa: ANN401
    for period, offset in PERIODS:
        if getattr(config, period, None) is None:
            continue
        of_old = [k % getattr(config, period) == getattr(config, offset) for k in range(depth)]
        wanted = [of_old[k] for k in kept]
        rule = next(
            ((p, o) for p in range(1, len(kept) + 2) for o in range(p) if _follows(wanted, p, o)),
            None,
        )
        if rule is None:
            left = [k for k, chosen in enumerate(wanted) if chosen]
            raise Refused(
                f"{config.model_type} places layers by `layer % {period} == {offset}`, and no such rule gives layers "
                f"{left} of the {len(kept)} that are left; remove other layers"
            )
        setattr(found, period, rule[0])
        setattr(found, offset, rule[1])


def _follows(wanted: Sequence[bool], period: int, offset: int) -> bool:
    return all(chosen == (k % period == offset) for k, chosen in enumerate(wanted))
