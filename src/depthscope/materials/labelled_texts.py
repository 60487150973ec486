"""The texts of some task files as windows: one whole text each, with what the tasks say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.data import json_rows
from depthscope.materials.edges import edges, encoded
from depthscope.materials.labelled import Labelled, labelled, load_labelled
from depthscope.materials.window import Window, Windows

if TYPE_CHECKING:
    from depthscope.runtime.model import Model

PACKAGED = "options.jsonl"
SHOWN = 1000
"""Characters of a text that are kept beside its ids."""


@dataclass(frozen=True)
class LabelledTexts:
    """All different texts of some tasks, each read once.

    Args:
        source: task files with commas between them, see `materials.labelled`; "" for the packaged sentences (good or
            bad). limit: items of each task at most; 0 takes all. max_tokens: longer texts are cut.
    """

    source: str = ""
    limit: int = 0
    max_tokens: int = 128

    @property
    def name(self) -> str:
        """The name of the material."""
        return "labelled"

    def tasks(self, seed: int) -> tuple[Labelled, ...]:
        """The tasks, each under a name of its own.

        Raises:
            BadInput: for two files of one name, and for what `load_labelled` refuses.
        """
        limit = self.limit or None
        if not self.source:
            found = [row for row in json_rows("", PACKAGED) if "sentence" in row]
            return (labelled("sentiment", found).first(limit, seed),)
        files = [path.strip() for path in self.source.split(",") if path.strip()]
        tasks = tuple(load_labelled(path, limit, seed=seed) for path in files)
        names = [task.name for task in tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(
                f"two task files are named {twice!r}; a task is known by its file's name, rename one"
            )
        return tasks

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a text, in order of first appearance.

        `about["text"]` is its beginning; `about["items"]` says where it stands: [task, kind, item, place in the item,
        places of the item, items of the task, gold]. A text without any id (an empty text, where the tokenizer adds
        none) has no window.

        Raises:
            EmptyMaterial: where no text is left.
        """
        places: dict[str, list[list[Any]]] = {}
        tasks = self.tasks(seed)
        for task in tasks:
            for number, item in enumerate(task.items):
                for place, text in enumerate(item.texts):
                    said = [task.name, task.kind, number, place, len(item.texts), len(task.items), item.gold]
                    places.setdefault(task.texts[text], []).append(said)
        items: list[Window] = []
        for text, said in places.items():
            ids, _ = encoded(model.tokenizer, text, self.max_tokens)
            if ids:
                about = {"text": text[:SHOWN], "items": said}
                # marked at its end, so that short texts fill a batch
                items.append(Window(len(items), f"text-{len(items):05d}", ids, (len(ids) - 1,), about))
        if not items:
            raise EmptyMaterial(f"{self.source or PACKAGED} has no text with a token in it")
        _, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        return Windows(tuple(items), ", ".join(f"{t.name} ({len(t.items)} items)" for t in tasks), words, 0)
