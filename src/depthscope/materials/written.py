"""Written: the beginnings of texts, and what the model itself writes after them."""

from __future__ import annotations

from dataclasses import dataclass

from depthscope.materials.text import cut, read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.generate import generate
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Written:
    """Prompts of equal length and greedy continuations; the positions that predict what was written are marked.

    Args:
        tokens: written after each prompt, fewer where the model ends its text. prompt: tokens of each prompt.
        count: prompts, each of another document where there are enough. source: of the prompts, as in
            `materials.text.read`; "" is the packaged sample.
    """

    tokens: int = 64
    prompt: int = 32
    count: int = 16
    source: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, tokens=at_least(1), prompt=at_least(1), count=at_least(1))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "written"

    def windows(self, model: Model, seed: int) -> Windows:
        """Prompts with what the model writes after them.

        Raises:
            Refused: for models that do not write. What reading and cutting text raise.
        """
        del seed  # greedy
        name, documents = read(self.source or None)
        prompts = cut(
            documents, model.tokenizer, source=name, tokens=self.prompt * self.count, window=self.prompt,
            model_type=model.config.model_type,
        )  # fmt: skip
        items = tuple(self._continued(model, window) for window in prompts.items)
        return Windows(items, f"{name}, {len(items)} beginnings and what {model.name} writes", prompts.bos, 0)

    def _continued(self, model: Model, prompt: Window) -> Window:
        said = generate(model, prompt.ids, max_new_tokens=self.tokens)
        ids = (*prompt.ids, *said.ids)
        marks = tuple(range(len(prompt.ids) - 1, len(ids) - 1))
        return Window(prompt.index, prompt.document, ids, marks, {"prompt": len(prompt.ids)})
