"""Image registers: what tokens of a model of images gather, and whether patches without content are used for it.

Question: Does a trained model of images use patches without content as places to gather what the whole picture is?

Method: The model reads synthetic pictures cut like its own images, one cell a patch, or photos from a folder. By layer
and kind of token (background patches, other patches, the class token, registers) it is measured, as it is and with
random weights of the same shape: received, the attention that a token of that kind gets over what it would get if all
tokens got alike; norm_ratio, the largest norm of a patch over the median; outlier_share, patches above four medians;
class_probe and own_probe, the share of tokens whose picture's class and whose own texture a linear probe reads, in
pictures that it was not trained on. In photos the third of the patches with the least contrast is background, a quarter
of the brightness stands for the texture, and the folder for the class. Units are pictures.

How to read: Background patches that receive more than 1, have outlying norms and tell the class better than other
patches do are used as registers. In a model with registers those should receive most. What random weights show as well
is no use that was learnt.

What misleads: Synthetic pictures are not what the model was trained on. Background patches of a synthetic picture are
all alike, so each gets as much attention as the next one, and all of them together much. A probe needs no use: the
model may hold a class in a token that nothing reads.

Source: Darcet et al. 2024, Vision Transformers Need Registers (arXiv 2309.16588); cells as patches and the random
weights are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.engine.needs import Facts
from depthscope.engine.picture_tokens import (
    KINDS,
    Probed,
    as_json,
    from_json,
    norms,
    received,
    token_measurements,
)
from depthscope.engine.study import Work
from depthscope.errors import Refused
from depthscope.materials.pictures import Cut, Shown, shown
from depthscope.materials.window import Window
from depthscope.results.result import Findings
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run
from depthscope.runtime.tiny import untrained

VARIANTS = ("as it is", "random weights")
ROWS = 8
"""Pictures a pass: attention of every token is looked at."""


@dataclass(frozen=True)
class ImageRegisters:
    """What a model of images is asked; the pictures are the reading's. rows: pictures a pass."""

    rows: int = ROWS

    def depends(self) -> Mapping[str, Any]:
        """Nothing besides."""
        return {}

    def run(self, work: Work) -> Findings:
        """The scores of all pictures, as the model is and with random weights; each is a step of the journal."""
        model = work.model
        if not model.anatomy.attention_layers:
            raise Refused(f"{model.name} has no attention, so nothing can be gathered in some of its tokens")
        found: list[dict[str, np.ndarray]] = []
        for place, name in enumerate(VARIANTS):

            def compute(place: int = place) -> dict[str, object]:
                return as_json(self._scores(work, untrained(model, work.seed) if place else model, place))

            found.append(
                from_json(
                    work.journal.step(
                        "scores", {"variant": name, "rows": self.rows, "seed": work.seed}, compute
                    )
                )
            )
        facts = Facts.of(model.anatomy, "pictures", work.seed, model.name)
        return Findings({m.name: m for m in token_measurements(found, VARIANTS, facts)})

    @torch.no_grad()
    def _scores(self, work: Work, model: Model, place: int) -> dict[str, np.ndarray]:
        """Score -> [picture, layer(, kind)]."""
        windows, cut = work.windows.items, Cut.of(model)
        more = _more_tokens(model, cut, shown(windows[:1], cut))
        kinds, own, label = _of_cells(windows, cut, model, more)
        probed = Probed.of(kinds, label, own, work.seed)
        cells = kinds < KINDS.index("class_token")
        parts: dict[str, list[np.ndarray]] = {"received": [], "norm_ratio": [], "outlier_share": []}
        vectors = np.zeros((len(probed.row), model.anatomy.n_layers, model.anatomy.d_model), np.float32)
        for begin in range(0, len(windows), self.rows):
            rows = slice(begin, begin + self.rows)
            seen = run(
                model, _batch(shown(windows[rows], cut), model), read=["L*.resid_post"],
                queries=torch.arange(kinds.shape[1]),
            )  # fmt: skip
            states = seen_states(seen, model)
            maps = [received(seen.pattern(k).cpu(), kinds[rows]) for k in model.anatomy.attention_layers]
            sizes = [norms(s, cells[rows]) for s in states]
            parts["received"].append(_by_layer(maps, model))
            parts["norm_ratio"].append(np.stack([ratio for ratio, _ in sizes], 1))
            parts["outlier_share"].append(np.stack([share for _, share in sizes], 1))
            here = np.flatnonzero((probed.row >= begin) & (probed.row < begin + self.rows))
            at = (probed.row[here] - begin, probed.position[here])
            vectors[here] = torch.stack([s[at] for s in states], 1).float().numpy()
            done = place * len(windows) + min(begin + self.rows, len(windows))
            work.progress("pictures", done, len(VARIANTS) * len(windows))
        return {**{name: np.concatenate(x) for name, x in parts.items()}, **probed.scores(vectors)}


def seen_states(seen: Mapping[Any, Tensor], model: Model) -> list[Tensor]:
    """The stream behind each layer, [row token d_model]."""
    return [seen[f"L{k}.resid_post"].cpu() for k in range(model.anatomy.n_layers)]  # pyright: ignore[reportArgumentType]


def _by_layer(found: Sequence[np.ndarray], model: Model) -> np.ndarray:
    """[row, layer, kind], NaN in layers without attention."""
    made = np.full((len(found[0]), model.anatomy.n_layers, len(KINDS)), np.nan)
    made[:, list(model.anatomy.attention_layers)] = np.stack(found, 1)
    return made


def _batch(pictures: Shown, model: Model) -> Batch:
    pixels = pictures.pixels.to(model.dtype)
    return Batch({"pixel_values": pixels}, torch.ones(len(pixels), 1, dtype=torch.bool))


def _more_tokens(model: Model, cut: Cut, one: Shown) -> int:
    """How many tokens stand before the patches: the class token and registers.

    Raises:
        Refused: where the model makes fewer tokens of an image than it has patches.
    """
    tokens = run(model, _batch(one, model), read=["L0.resid_post"])["L0.resid_post"].shape[1]
    if tokens < cut.side**2:
        raise Refused(f"{model.name} makes {tokens} tokens of {cut.side**2} patches; one a patch is needed")
    return tokens - cut.side**2


def _of_cells(windows: Sequence[Window], cut: Cut, model: Model, more: int) -> tuple[Tensor, Tensor, Tensor]:
    """Kind and own texture of every token, class token and registers first; the class of every picture."""
    registers = int(getattr(model.config, "num_register_tokens", 0) or 0)
    first = torch.full((1, more), KINDS.index("class_token"))
    first[:, more - registers :] = KINDS.index("register")
    parts = list(_shown_in_parts(windows, cut))
    own = torch.cat([part.own for part in parts])
    kinds = torch.where(torch.cat([part.background for part in parts]), 0, 1)
    rows = len(windows)
    return (
        torch.cat([first.expand(rows, -1), kinds], 1),
        torch.cat([torch.full((rows, more), -1), own], 1),
        torch.cat([part.label for part in parts]),
    )


def _shown_in_parts(windows: Sequence[Window], cut: Cut) -> Iterator[Shown]:
    for begin in range(0, len(windows), 64):
        yield shown(windows[begin : begin + 64], cut)
