"""Verify: run the laws on the loaded weights; each holds, is broken, is refused, or does not apply."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused
from depthscope.runtime.laws import HALF, LAWS, Errors, Law, NotApplicable
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.tiny import PlainTokenizer

TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Largest relative error of a law, by the model's type. In half precision the median must also stay below
MEDIAN, and sinks are reported and not judged."""
MEDIAN = 1e-2
_BATCHING = 5
_ROUNDED = 2.0**-7
ROUTED = 0.95
"""Share of tokens that law 5 judges in half precision where experts are routed.

The last bit of a score can send a token to other experts when the batch has another shape, and that
token's states are then rightly others."""
_INSIDE = {2: 1e-6, 3: 1e-6, 5: 1e-6}
"""float64 tolerance of the laws that compare with code of transformers that rounds to float32 on the way: the
softmax of eager attention, rotary angles, the logits of some families."""

PROBE = (
    "The lighthouse keeper counted forty ships before the fog came in and hid the harbour from him.",
    "def area(width, height): return width * height  # both are given in metres, never in feet",
    "When water freezes it expands, which is why pipes burst in winter and why ice floats on lakes.",
)
"""The text that the laws are run on."""

Status = Literal["holds", "broken", "refused", "not applicable"]


@dataclass(frozen=True)
class Verdict:
    """What one law said: status, worst error and tolerance (None where nothing was compared), reason."""

    law: int
    title: str
    status: Status
    worst: float | None
    tolerance: float | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def verify(model: Model, laws: Iterable[int] = (), batch: Batch | None = None) -> tuple[Verdict, ...]:
    """What each law says of the loaded weights: that what is read of them is what the model computes.

    A verdict is "holds", "broken", "refused" or "not applicable", with the worst error and its tolerance, or a reason.

    Args:
        model: any loaded model.
        laws: numbers of the laws to run; empty means all.
        batch: rows of equal length to run them on; by default those of `probe`.

    Raises:
        BadInput: for a law that does not exist.

    Example:
        >>> {verdict.status for verdict in ds.verify(model)}
        {'holds'}
    """
    batch = batch or probe(model)
    known = {number for number, _, _ in LAWS}
    wanted = set(laws) or known
    if wanted - known:
        raise BadInput(f"laws={sorted(wanted)}: there are laws {', '.join(map(str, sorted(known)))}")
    return tuple(_judged(model, batch, number, title, law) for number, title, law in LAWS if number in wanted)


def holds(verdicts: Iterable[Verdict]) -> bool:
    """True where no law is broken."""
    return all(v.status != "broken" for v in verdicts)


def probe(model: Model, rows: int = 3, length: int = 12, seed: int = 0) -> Batch:
    """Rows of equal length to run the laws on: a fixed text through the model's tokenizer.

    Models without a tokenizer of their own get random ids (never the ids 0 to 2), image models random
    images of their own size. Random ids are no fair test of trained weights: they drive states far from
    where it works.
    """
    generator = torch.Generator().manual_seed(seed)
    if model.anatomy.family.reads == "image":
        config = model.config
        size = (2, config.num_channels, config.image_size, config.image_size)
        pixels = torch.randn(size, generator=generator).to(model.dtype)
        return Batch({"pixel_values": pixels}, torch.ones(2, 1, dtype=torch.bool), ("0", "1"), (0, 1))
    if model.tokenizer is not None and not isinstance(model.tokenizer, PlainTokenizer):
        written = [model.tokenizer.encode(text) for text in PROBE]
        shortest = min(length, *(len(ids) for ids in written))
        if shortest > length // 2:
            return Batch.of_ids([written[k % len(PROBE)][:shortest] for k in range(rows)])
    top = model.anatomy.d_vocab or int(model.config.vocab_size)
    return Batch.of_ids(torch.randint(3, top, (rows, length), generator=generator))


def _judged(model: Model, batch: Batch, number: int, title: str, law: Law) -> Verdict:
    declared = model.anatomy.family.refusals.get(number)
    if declared:
        return Verdict(number, title, "refused", None, None, declared)
    try:
        errors = law(model, batch)
    except NotApplicable as reason:
        return Verdict(number, title, "not applicable", None, None, str(reason))
    except Refused as reason:
        return Verdict(number, title, "refused", None, None, str(reason))
    return _compared(model, number, title, errors)


def _compared(model: Model, number: int, title: str, errors: Errors) -> Verdict:
    half = model.dtype in HALF
    tolerance = _ROUNDED if half and errors.rounded else TOLERANCE[model.dtype]
    if model.dtype == torch.float64:
        tolerance = _INSIDE.get(number, tolerance)
    values, note = _without_sinks(errors, tolerance) if half else (errors.values, "")
    worst, median = float(values.max()), float(values.median())
    fine, reason = worst <= tolerance and (not half or median <= MEDIAN), note
    if half and not fine and number == _BATCHING and model.anatomy.family.routed:
        judged = float(values.quantile(ROUTED))
        fine = judged <= tolerance and median <= MEDIAN
        reason = f"{ROUTED:.0%} of {len(values)} tokens are within {judged:.2g}; others met other experts"
    if not fine:
        reason = f"worst relative error {worst:.2g} of {len(values)} (median {median:.2g})"
    return Verdict(number, title, "holds" if fine else "broken", worst, tolerance, reason)


def _without_sinks(errors: Errors, tolerance: float) -> tuple[Tensor, str]:
    """The errors that half precision is judged by, and a note where a sink left out is beyond the tolerance."""
    if errors.apart is None or not errors.apart.any() or errors.apart.all():
        return errors.values, ""
    left_out = errors.values[errors.apart]
    beyond = float(left_out.max())
    note = f"{len(left_out)} of {len(errors.values)} tokens are sinks, apart: worst {beyond:.2g}"
    return errors.values[~errors.apart], note if beyond > tolerance else ""
