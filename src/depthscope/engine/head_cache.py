"""What keys and values of a model take, head by head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depthscope.measures.cache import RECENT, START, cache_bytes
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class CacheShape:
    """The cache of a model as numbers.

    Args:
        kv_heads: key-value heads of a layer. window: of each layer, 0 for none. width: bytes of one token in one
            key-value head of each layer, 0 where a layer keeps no keys.
    """

    kv_heads: int
    window: np.ndarray
    width: np.ndarray

    @classmethod
    def of(cls, model: Model, itemsize: int = 2) -> CacheShape:
        """From a loaded model; latent attention keeps its latent numbers once, counted as one key-value head."""
        anatomy, config = model.anatomy, model.config
        latent = getattr(config, "kv_lora_rank", None)
        kv_heads = 1 if latent else max(1, anatomy.n_kv_heads)
        numbers = int(latent) + int(config.qk_rope_head_dim) if latent else 2 * anatomy.d_head
        window = np.array([w or 0 for w in anatomy.window_of_layer])
        width = np.array([itemsize * numbers if x.attn is not None else 0 for x in anatomy.layers])
        return cls(kv_heads, window, width)

    def bytes(
        self, tokens: int, full: np.ndarray | None = None, start: int = START, recent: int = RECENT
    ) -> int:
        """Bytes after so many tokens. full: [layer kv_head], all of them by default."""
        every = np.ones((len(self.width), self.kv_heads), bool) if full is None else full
        return cache_bytes(tokens, every, self.window, self.width, start, recent)

    def numbers(self) -> np.ndarray:
        """All of it in one row of numbers: kv_heads, windows, widths."""
        return np.concatenate([[self.kv_heads], self.window, self.width]).astype(np.float64)

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> CacheShape:
        """Back from `numbers`."""
        layers = (len(numbers) - 1) // 2
        whole = numbers.astype(np.int64)
        return cls(int(whole[0]), whole[1 : 1 + layers], whole[1 + layers :])
