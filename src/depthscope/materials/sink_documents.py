"""Labelled documents behind one and the same first token, which in a causal model can know nothing of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.rows import rows
from depthscope.materials.window import Window, Windows

if TYPE_CHECKING:
    from depthscope.runtime.model import Model

PACKAGED = "sample.jsonl"
LABELS = ("domain", "label_name", "label", "register")


@dataclass(frozen=True)
class SinkDocuments:
    """Windows of labelled documents.

    Args:
        source: JSON lines with a text and a label, by path; "" for the packaged sample and its registers. documents: at
            most, 0 takes all. length: tokens a window, the first one counted in. each: windows of a document at most.
    """

    source: str = ""
    documents: int = 0
    length: int = 64
    each: int = 8

    @property
    def name(self) -> str:
        """The name of the material."""
        return "sink_documents"

    def windows(self, model: Model, seed: int) -> Windows:
        """Windows of equal length behind one first token; `about["label"]` is the document's.

        The first token is what the tokenizer puts in front by itself, else its BOS or end token.

        Raises:
            BadInput: for rows without a label. EmptyMaterial: when no document is long enough, or all have one label.
        """
        del seed  # every document is read
        where, found = rows(self.source, PACKAGED, ("text",))
        key = next((k for k in LABELS if k in found[0]), "")
        if not key:
            raise BadInput(f"{where} has no label; rows need one of {', '.join(LABELS)}")
        before, after, _ = edges(model.tokenizer, "auto", model.config.model_type)
        first = before or [_separator(model.tokenizer)]
        room = self.length - len(first) - len(after)
        if room < 4:
            raise BadInput(f"length={self.length} leaves {room} tokens of a text; give 16 or more")
        items: list[Window] = []
        for number, row in enumerate(found[: self.documents or None]):
            ids = plain_ids(model.tokenizer, str(row["text"]))[: room * self.each]
            name = str(row.get("id", f"document-{number:05d}"))
            for start in range(0, len(ids) - room + 1, room):
                whole = (*first, *ids[start : start + room], *after)
                items.append(Window(len(items), name, tuple(whole), (), {"label": str(row[key])}))
        if len({w.about["label"] for w in items}) < 2:
            raise EmptyMaterial(
                f"{where}: no two labels have a document of {room} tokens; give longer or other texts"
            )
        return Windows(tuple(items), where, f"token {first[0]} before each window", 0)


def _separator(tokenizer: object) -> int:
    found = (getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id"))
    return next((int(k) for k in found if k is not None), 0)
