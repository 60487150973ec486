"""Reserved text: windows of the documents that nothing is trained on, to judge trained things by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from depthscope.errors import EmptyMaterial
from depthscope.materials.data import data_path
from depthscope.materials.reserved import SHARE, reserved
from depthscope.materials.text import cut, read
from depthscope.materials.window import Windows
from depthscope.ranges import above, check_ranges

if TYPE_CHECKING:
    from depthscope.runtime.model import Model


@dataclass(frozen=True)
class ReservedText:
    """The reserved documents of a text, in windows of one length.

    Args:
        source: as for the run's text, see `materials.data.data_path`. tokens, window: see `materials.text.cut`. share:
            see `materials.reserved`.
    """

    source: str
    tokens: int = 65536
    window: int = 256
    share: float = SHARE

    def __post_init__(self) -> None:
        check_ranges(self, share=above(0, below=1, what="share of the documents"))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "reserved"

    def windows(self, model: Model, seed: int) -> Windows:
        """Full windows only: a shorter one would reach fewer positions.

        Raises:
            EmptyMaterial: when no reserved document fills a window. What reading the source raises.
        """
        del seed
        where, documents = read(data_path(self.source))
        kept = [each for each in documents if reserved(each.text, self.share)]
        if not kept:
            raise EmptyMaterial(f"{where}: none of {len(documents)} documents is reserved; give more text")
        found = cut(
            kept, model.tokenizer, source=f"{where}, reserved {self.share:.0%} of the documents",
            tokens=self.tokens, window=self.window, model_type=str(getattr(model.config, "model_type", "")),
        )  # fmt: skip
        full = [w for w in found.items if len(w.ids) == self.window]
        whole = tuple(replace(w, index=k) for k, w in enumerate(full))
        if not whole:
            raise EmptyMaterial(
                f"{where}: no reserved document has the {self.window} tokens of a window; give a smaller window"
            )
        dropped = found.dropped + sum(len(w.ids) for w in found.items if len(w.ids) < self.window)
        return Windows(whole, found.source, found.bos, dropped)
