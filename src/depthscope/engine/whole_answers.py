"""Whether a model says a whole answer, with vectors added at the end of its prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.runtime.edits import Edit
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run


@torch.no_grad()
def whole_answers(
    model: Model, ids: Sequence[int], answer: Sequence[int], state: int, added: Sequence[Tensor | None]
) -> list[bool]:
    """Whether each token of an answer is the most likely one behind those before it: greedy writing gives the answer.

    Args:
        ids: the prompt. state: where vectors are added, 0 the embedding output; at the prompt's last position only, so
            that later tokens see it through what the layers above keep of that position.
        added: one a row; None adds nothing.
    """
    width = model.anatomy.d_model
    rows = torch.stack([torch.zeros(width) if one is None else one.float().cpu() for one in added])
    last = len(ids) - 1
    where = torch.arange(last + len(answer)) == last
    site = Site(state - 1, "resid_post") if state else Site(0, "resid_pre")

    def pushed(stream: Tensor, _: Tensor) -> Tensor:
        return stream + rows.to(stream)[:, None]

    end = model.anatomy.states()[-1]
    text = [*ids, *answer[:-1]]
    seen = run(model, Batch.of_ids([text] * len(rows)), read=[end], edit=[Edit(site, pushed, "add", where)])
    said = model.head.logits(seen[end][:, last:].flatten(0, 1)).argmax(-1).view(len(rows), -1).cpu()
    return (said == torch.tensor(list(answer))).all(-1).tolist()
