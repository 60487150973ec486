"""A family: the literal that describes one architecture, so that its forward passes can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Paths = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts. All paths are dotted attribute names.

    A sublayer path is relative to the block and may be missing in some blocks (hybrids): the first path that
    exists in a block is its sublayer of that kind. `attn` counts as present only where `attn_proj` exists
    too, which tells attention from recurrence where both have one name.

    Args:
        model_types: values of `config.model_type` that this literal serves.
        blocks: the ModuleList of blocks, relative to the base model (`net.base_model`).
        attn, ssm, mlp: the sublayer modules inside a block, relative to the block. `ssm` is any token mixer
            that is not attention: state space, linear attention, convolution, recurrence.
        attn_write, ssm_write, mlp_write: the module whose output is ADDED to the stream, where that is not
            the sublayer itself (a norm or a scale after it, a last projection directly in the block).
        attn_scale, ssm_scale, mlp_scale: name of a number that multiplies the write before it is added;
            looked for on the block, then on the config.
        attn_proj: the attention's output projection, relative to the block. mlp_proj: the MLP's last
            projection.
        final_norm: relative to the base model; None where the architecture has none.
        readout: modules between the final norm and the unembedding, relative to the whole net.
        logit_scale, logit_divisor, logit_cap: config keys of what happens to logits after the unembedding.
        parallel: True, or the config key that says so: both sublayers read resid_pre, there is no resid_mid.
        attn_norm, mlp_norm: with `post_norm`, the norms through which the whole stream goes after each add.
        post_norm: the stream itself is normalised after each add (BERT).
        pre: a module of block 0 through which the embedding goes first; its output is state 0 (RWKV).
        causal: False for encoders.
        reads: what the model's input is.
        routed: True where a router picks experts for each token: in half precision the last bit of a score
            can pick others, so the same token in another batch shape may leave with another write.
        left_padding: True where left-padded rows give the numbers of the row alone.
        batch_axis: names of recorded call arguments whose batch axis is not the first.
        overrides: config values that the laws need (they change no function in float32), with the reason
            beside them.
        tiny: config values for a tiny random model; with `config_class` it is all `runtime.tiny` needs.
        config_class: name of the configuration class in transformers.
        head_class: auto class of the tiny model: "causal", "masked", "image", or "base".
        refusals: law number -> reason, where a law cannot hold for this architecture.

    Example:
        >>> from depthscope.registry import FAMILIES
        >>> isinstance(FAMILIES["llama"], ds.Family), FAMILIES["llama"].attn
        (True, ('self_attn',))
    """

    model_types: Paths
    blocks: str
    attn: Paths = ()
    ssm: Paths = ()
    mlp: Paths = ()
    attn_write: Paths = ()
    ssm_write: Paths = ()
    mlp_write: Paths = ()
    attn_scale: str | None = None
    ssm_scale: str | None = None
    mlp_scale: str | None = None
    attn_proj: Paths = ()
    mlp_proj: Paths = ()
    final_norm: str | None = None
    readout: Paths = ()
    logit_scale: str | None = None
    logit_divisor: str | None = None
    logit_cap: str | None = None
    parallel: bool | str = False
    post_norm: bool = False
    attn_norm: str | None = None
    mlp_norm: str | None = None
    pre: str | None = None
    causal: bool = True
    reads: Literal["tokens", "image"] = "tokens"
    routed: bool = False
    left_padding: bool = False
    batch_axis: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    config_class: str = ""
    head_class: Literal["causal", "masked", "image", "base"] = "causal"
    refusals: Mapping[int, str] = field(default_factory=dict)
