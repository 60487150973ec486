"""What vectors of a state cost on this machine: parameters, bytes, and seconds for a batch of texts, measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, cast

import torch

from depthscope.anatomy.anatomy import base_model
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run


@dataclass(frozen=True)
class LayerCost:
    """The cost of one state.

    Args:
        parameters, bytes: of the embedding, the blocks up to the state and the final norm. seconds: of one batch, the
            median. seconds_range: quickest and slowest repeat. peak_bytes: most memory beyond the weights, None where
            the device does not say it. rows, tokens: of the batch.
    """

    state: int
    parameters: int
    bytes: int
    seconds: float
    seconds_range: tuple[float, float]
    peak_bytes: int | None
    rows: int
    tokens: int
    repeats: int
    threads: int
    device: str

    def as_json(self) -> dict[str, Any]:
        """The cost as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> LayerCost:
        """What `as_json` gave."""
        rest: dict[str, Any] = {**stored, "seconds_range": tuple(stored["seconds_range"])}
        return cls(**rest)


def layer_costs(
    model: Model,
    states: Sequence[int],
    *,
    tokens: int,
    rows: int = 8,
    repeats: int = 7,
    warmup: int = 2,
    seed: int = 0,
) -> tuple[LayerCost, ...]:
    """Measure states in turn, repeat by repeat, so that a drift of the machine meets all of them alike.

    Args:
        tokens: of each of `rows` texts of random ids, the median length of the task's texts.
    """
    vocabulary = cast(Any, model.net).get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(min(3, vocabulary - 1), vocabulary, (rows, tokens), generator=generator)
    batch = Batch.of_ids(ids).to(model.device)
    times = [[_once(model, batch, state) for state in states] for _ in range(warmup + repeats)][warmup:]
    found: list[LayerCost] = []
    for k, state in enumerate(states):
        held, own = parameters_of(model, state), [row[k][0] for row in times]
        peaks = [row[k][1] for row in times if row[k][1] is not None]
        found.append(
            LayerCost(
                state, sum(p.numel() for p in held), sum(p.numel() * p.element_size() for p in held), median(own),
                (min(own), max(own)), max((p for p in peaks if p is not None), default=None), rows, tokens, repeats,
                torch.get_num_threads(), model.device.type,
            )
        )  # fmt: skip
    return tuple(found)


def parameters_of(model: Model, state: int) -> list[torch.nn.Parameter]:
    """The parameters that a state's vectors need, each once, also where a later block shares them."""
    layers = model.anatomy.layers
    needed = {id(p) for layer in layers[:state] for p in layer.block.parameters()}
    later = {id(p) for layer in layers[state:] for p in layer.block.parameters()} - needed
    return [p for p in {id(p): p for p in base_model(model.net).parameters()}.values() if id(p) not in later]


def _once(model: Model, batch: Batch, state: int) -> tuple[float, int | None]:
    """Seconds until the state is there, and the most memory that took beyond the weights."""
    cuda = model.device.type == "cuda"
    before = 0
    if cuda:
        torch.cuda.synchronize(model.device)
        torch.cuda.reset_peak_memory_stats(model.device)
        before = torch.cuda.memory_allocated(model.device)
    begun = time.perf_counter()
    run(model, batch, read=[model.anatomy.states()[state]])
    if cuda:
        torch.cuda.synchronize(model.device)
    seconds = time.perf_counter() - begun
    return seconds, torch.cuda.max_memory_allocated(model.device) - before if cuda else None
