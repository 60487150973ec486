"""One affine map behind pooled vectors: centring, all-but-the-top, principal components; fitted without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from depthscope.errors import BadInput

KINDS = ("none", "center", "abtt", "pca", "whiten")
"""`abtt`, `pca` and `whiten` take a number behind a hyphen: directions removed, directions kept."""
SHARE_REMOVED = 100
"""All-but-the-top removes d / 100 directions where no number is given (Mu and Viswanath 2018)."""


@dataclass(frozen=True)
class Affine:
    """x -> W x + b.

    Args:
        weight: W. bias: b. texts: on how many texts it was fitted.
    """

    kind: str
    weight: Float[np.ndarray, "out d_model"]
    bias: Float[np.ndarray, " out"]
    texts: int

    def __call__(self, vectors: Float[np.ndarray, "text d_model"]) -> Float[np.ndarray, "text out"]:
        """The mapped vectors."""
        return (vectors @ self.weight.T + self.bias).astype(np.float32)


def parsed(post: str) -> tuple[str, int]:
    """Kind and number of what stands behind pooling, such as `pca-64`; 0 where there is no number.

    Raises:
        BadInput: for another word, or a number where none belongs or that is missing.
    """
    kind, _, number = post.partition("-")
    wanted = {"none": (False,), "center": (False,), "abtt": (False, True)}.get(kind, (True,))
    if kind not in KINDS or (number and not number.isdigit()) or bool(number) not in wanted or number == "0":
        raise BadInput(
            f"{post!r} cannot stand behind pooling; it is none, center, abtt, abtt-D, pca-D or whiten-D"
        )
    return kind, int(number or 0)


def fitted(post: str, vectors: Float[np.ndarray, "text d_model"]) -> Affine | None:
    """The affine map of a kind, fitted on the vectors of texts; None for `none`. Duplicate texts count once.

    With m the mean and v_i the principal directions: center x - m; abtt-D (x - m) without its parts along v_1..v_D;
    pca-D the coordinates of x - m along v_1..v_D; whiten-D those divided by their standard deviations.
    Source: Mu and Viswanath 2018 (all-but-the-top).

    Raises:
        BadInput: for another word, for fewer than 2 different texts, and for more directions than they span.
    """
    kind, number = parsed(post)
    if kind == "none":
        return None
    different = np.unique(vectors, axis=0).astype(np.float64)
    if len(different) < 2:
        raise BadInput(f"{post} is fitted on texts; {len(different)} different ones are not enough")
    mean, width = different.mean(0), different.shape[1]
    if kind == "center":
        return _behind(kind, np.eye(width), mean, len(different))
    _, sizes, directions = np.linalg.svd(different - mean, full_matrices=False)
    number = number or max(1, width // SHARE_REMOVED)
    rank = int((sizes > sizes[0] * 1e-6).sum())
    if number > rank:
        raise BadInput(
            f"{post} needs {number} directions; {len(different)} texts span {rank} here. Give more texts"
        )
    top = directions[:number]
    if kind == "abtt":
        return _behind(kind, np.eye(width) - top.T @ top, mean, len(different))
    spread = sizes[:number, None] / np.sqrt(len(different) - 1) if kind == "whiten" else 1.0
    return _behind(kind, top / spread, mean, len(different))


def _behind(kind: str, weight: np.ndarray, mean: np.ndarray, texts: int) -> Affine:
    return Affine(kind, weight.astype(np.float32), (-weight @ mean).astype(np.float32), texts)
