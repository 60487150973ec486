"""A transformer and a Mamba of the same width and about the same number of parameters, with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from depthscope.errors import BadInput
from depthscope.ranges import at_least, check_ranges

FAMILIES = ("transformer", "mamba")
"""The two of a pair, and the names of their folders."""


@dataclass(frozen=True)
class PairSizes:
    """Sizes of the two networks.

    A block of a transformer has about 12 d_model^2 parameters, one of Mamba about 6 d_model^2 and what its cells need,
    so Mamba gets more layers; the MLPs of the transformer are then as wide as brings both to one number of parameters.

    Args:
        d_model: width of both. transformer_layers, mamba_layers: blocks. heads: attention heads. cells: size of the
            state of each Mamba channel.
    """

    d_model: int = 64
    transformer_layers: int = 6
    mamba_layers: int = 9
    heads: int = 4
    cells: int = 8

    def __post_init__(self) -> None:
        check_ranges(
            self,
            d_model=at_least(1),
            transformer_layers=at_least(1),
            mamba_layers=at_least(1),
            heads=at_least(1),
            cells=at_least(1),
        )
        if self.d_model % (2 * self.heads):
            raise BadInput(
                f"d_model={self.d_model}, heads={self.heads}: d_model is a multiple of twice the heads (rotary "
                "positions turn pairs of channels)"
            )

    def configs(self, vocabulary: int, window: int) -> dict[str, Any]:
        """The configurations of both, of (nearly) equal numbers of parameters."""
        mamba = self._mamba(vocabulary)
        wanted = parameters(mamba)
        one, two = (parameters(self._transformer(vocabulary, window, width)) for width in (1, 2))
        width = max(1, round(1 + (wanted - one) / (two - one)))
        return {"transformer": self._transformer(vocabulary, window, width), "mamba": mamba}

    def _transformer(self, vocabulary: int, window: int, mlp: int) -> Any:  # noqa: ANN401
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocabulary, hidden_size=self.d_model, intermediate_size=mlp, tie_word_embeddings=True,
            num_hidden_layers=self.transformer_layers, num_attention_heads=self.heads,
            num_key_value_heads=self.heads, max_position_embeddings=max(2 * window, 512), bos_token_id=0,
            eos_token_id=0, pad_token_id=0, use_cache=False,
        )  # fmt: skip

    def _mamba(self, vocabulary: int) -> Any:  # noqa: ANN401
        from transformers import MambaConfig

        return MambaConfig(
            vocab_size=vocabulary, hidden_size=self.d_model, state_size=self.cells, tie_word_embeddings=True,
            num_hidden_layers=self.mamba_layers, use_mambapy=False, residual_in_fp32=False, bos_token_id=0,
            eos_token_id=0, pad_token_id=0, use_cache=False,
        )  # fmt: skip


def parameters(config: Any) -> int:  # noqa: ANN401  (a transformers configuration)
    """Number of parameters of a network, without making its weights; tied matrices count once."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in net.parameters())


def made(config: Any, seed: int) -> nn.Module:  # noqa: ANN401
    """A network with the random weights that its own code starts from."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
