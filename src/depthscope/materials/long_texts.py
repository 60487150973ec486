"""Long texts of equal length, whole, from their beginning: what a cache is tested on."""

from __future__ import annotations

from dataclasses import dataclass

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.data import text_source
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class LongTexts:
    """The first tokens of texts that are long enough.

    Args:
        source: as for the run's text; "" for the packaged sample. texts: how many. length: tokens of each, with the
            start token where the tokenizer puts one in front.
    """

    source: str = ""
    texts: int = 8
    length: int = 700

    def __post_init__(self) -> None:
        check_ranges(self, texts=at_least(1), length=at_least(8, what="tokens"))

    @property
    def name(self) -> str:
        """The file of ids."""
        return "long-texts"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a text; `about` says the ids of a line feed, by which first tokens may be replaced.

        Raises:
            EmptyMaterial: where no text is long enough. BadInput: for more tokens than the model has positions.
        """
        del seed
        limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9)
        if self.length > limit:
            raise BadInput(f"length={self.length}: {model.name} has {limit} positions; give a shorter one")
        before, _, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
        where, documents = read(text_source(self.source))
        line = plain_ids(model.tokenizer, "\n")
        found: list[Window] = []
        for document in documents:
            if len(found) == self.texts:
                break
            ids = [*before, *plain_ids(model.tokenizer, document.text)][: self.length]
            if len(ids) == self.length:
                found.append(
                    Window(len(found), document.name, tuple(ids), (), {"line": line, "start": len(before)})
                )
        if not found:
            raise EmptyMaterial(
                f"{where} has no text of {self.length} tokens; give longer texts or a smaller length"
            )
        return Windows(tuple(found), f"{len(found)} texts of {where}", words, 0)
