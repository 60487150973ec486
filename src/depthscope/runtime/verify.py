"""Verify: run the laws on the loaded weights and say of each: holds, broken, refused with the reason, or not applicable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from depthscope.errors import Refused
from depthscope.runtime.laws import LAWS, Errors, Law, NotApplicable
from depthscope.runtime.model import Batch, Model

TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Largest relative error of a law, by the model's type. In half precision the median must also stay below MEDIAN."""
MEDIAN = 1e-2
_BATCHING = 5
_ROUNDED = 2.0**-7
ROUTED = 0.95
"""Share of tokens that law 5 judges in half precision where experts are routed: the last bit of a score can send a token
to other experts when the batch has another shape, and that token's states are then rightly others."""
_INSIDE = {2: 1e-6, 3: 1e-6, 5: 1e-6}
"""float64 tolerance of the laws that compare with code of transformers that itself rounds to float32 on the way: the
softmax of eager attention, rotary angles, the logits of some families."""

Status = Literal["holds", "broken", "refused", "not applicable"]


@dataclass(frozen=True)
class Verdict:
    """What one law said: status, worst relative error and tolerance (None where nothing was compared), reason."""

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
    """Run the laws of DESIGN section 4 on a loaded model.

    Args:
        laws: numbers of the laws to run; empty means all.
        batch: rows of equal length to run them on; by default three rows of 12 tokens (or two random images).
    """
    batch = batch or probe(model)
    wanted = set(laws) or {number for number, _, _ in LAWS}
    return tuple(_judged(model, batch, number, title, law) for number, title, law in LAWS if number in wanted)


def holds(verdicts: Iterable[Verdict]) -> bool:
    """True where no law is broken."""
    return all(v.status != "broken" for v in verdicts)


def probe(model: Model, rows: int = 3, length: int = 12, seed: int = 0) -> Batch:
    """Random ids (never the ids 0 to 2) or random images of the model's own size."""
    generator = torch.Generator().manual_seed(seed)
    if model.anatomy.family.reads == "image":
        config = model.config
        size = (2, config.num_channels, config.image_size, config.image_size)
        pixels = torch.randn(size, generator=generator).to(model.dtype)
        return Batch({"pixel_values": pixels}, torch.ones(2, 1, dtype=torch.bool), ("0", "1"), (0, 1))
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
    half = model.dtype in (torch.bfloat16, torch.float16)
    tolerance = _ROUNDED if half and errors.rounded else TOLERANCE[model.dtype]
    if model.dtype == torch.float64:
        tolerance = _INSIDE.get(number, tolerance)
    worst, median = float(errors.values.max()), float(errors.values.median())
    fine, reason = worst <= tolerance and (not half or median <= MEDIAN), ""
    if half and not fine and number == _BATCHING and model.anatomy.family.routed:
        judged = float(errors.values.quantile(ROUTED))
        fine = judged <= tolerance and median <= MEDIAN
        reason = f"{ROUTED:.0%} of {len(errors.values)} tokens are within {judged:.2g}; the others met other experts"
    if not fine:
        reason = f"worst relative error {worst:.2g} of {len(errors.values)} (median {median:.2g})"
    return Verdict(number, title, "holds" if fine else "broken", worst, tolerance, reason)
