"""The refusal that analyses of attention heads share."""

from __future__ import annotations

from depthscope.anatomy.anatomy import Anatomy
from depthscope.errors import Refused
from depthscope.runtime.head_writes import layers_with_heads


def must_attend(anatomy: Anatomy, writing: bool = False) -> None:
    """Refuse a model that has no heads to speak of.

    Args:
        writing: the heads' own writes are read too, so an output projection that adds them up must be there.

    Raises:
        Refused: where no layer has softmax attention, naming the kinds of its layers.
    """
    if not (layers_with_heads(anatomy) if writing else anatomy.attention_layers):
        kinds = ", ".join(dict.fromkeys(anatomy.kind_of_layer))
        raise Refused(f"no layer has softmax attention heads (its layers are: {kinds})")
