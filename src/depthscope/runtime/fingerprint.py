"""A fingerprint of loaded weights: equal weights give equal hashes, wherever they came from."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn


def weights_hash(net: nn.Module) -> str:
    """sha256 over the sorted parameters' names, shapes, types and bytes (tied weights count once).

    Each parameter is hashed by itself, several at a time, and the digests are hashed in order of their names;
    the same weights in another type have another hash.
    """
    named = sorted(net.named_parameters(), key=lambda pair: pair[0])
    with ThreadPoolExecutor(max_workers=max(1, min(8, (os.cpu_count() or 1)))) as pool:
        digests = pool.map(_digest, (parameter for _, parameter in named))
        whole = hashlib.sha256()
        for (name, parameter), digest in zip(named, digests, strict=True):
            whole.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
            whole.update(digest)
    return whole.hexdigest()


def _digest(parameter: Tensor) -> bytes:
    raw = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(raw.numpy().data).digest()
