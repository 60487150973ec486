"""Cost: what a model takes on this machine, measured: parameters, bytes, cache, tokens a second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Model

_WEIGHED = 16
"""Tokens beyond a prompt whose cache is weighed."""


@dataclass(frozen=True)
class Speed:
    """Tokens a second over all rows of a batch, medians with the quickest and slowest repeat behind them.

    Args:
        prefill: of reading a prompt and writing its first token. decode: of writing further tokens with the cache.
        prefill_range, decode_range: slowest and quickest repeat.
    """

    batch: int
    prefill: float
    decode: float
    prefill_range: tuple[float, float]
    decode_range: tuple[float, float]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Speed:
        """The speed in what `Cost.as_dict` gave."""
        ranges = {key: tuple(stored[key]) for key in ("prefill_range", "decode_range")}
        rest: dict[str, Any] = {**stored, **ranges}
        return cls(**rest)


@dataclass(frozen=True)
class Cost:
    """What a model takes on this machine.

    Args:
        parameters: shared ones counted once; embedding_share: the share of them in embedding and unembedding, which
            removing layers does not shrink.
        bytes: of the weights as they are stored. kv_bytes: by which the cache grows with each token of a row.
        state_bytes: of the cache that do not grow (recurrent states, full windows), a row.
        speed: one entry for each batch size. prompt, new: tokens read and written in a repeat. repeats: of the medians.
    """

    layers: int
    parameters: int
    embedding_share: float
    bytes: int
    kv_bytes: float
    state_bytes: float
    speed: tuple[Speed, ...]
    prompt: int
    new: int
    repeats: int
    threads: int
    device: str

    def as_dict(self) -> dict[str, Any]:
        """The cost as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Cost:
        """The cost that `as_dict` gave."""
        speed = tuple(Speed.of(each) for each in stored["speed"])
        rest: dict[str, Any] = {**stored, "speed": speed}
        return cls(**rest)


def measured(
    model: Model,
    *,
    prompt: int = 128,
    new: int = 16,
    batches: Sequence[int] = (1, 8),
    warmup: int = 3,
    repeats: int = 10,
    seed: int = 0,
) -> Cost:
    """What one model takes, see `measured_in_turns`."""
    (found,) = measured_in_turns(
        (model,), prompt=prompt, new=new, batches=batches, warmup=warmup, repeats=repeats, seed=seed
    )
    return found


def measured_in_turns(
    models: Sequence[Model],
    *,
    prompt: int = 128,
    new: int = 16,
    batches: Sequence[int] = (1, 8),
    warmup: int = 3,
    repeats: int = 10,
    seed: int = 0,
) -> tuple[Cost, ...]:
    """Measure models: random ids are read and written greedily with their own cache, never ending early.

    Prefill speed = batch x prompt / time to the first token; decode speed = batch x new / time of the `new` tokens
    behind it. Models are timed in turns, repeat by repeat, so that a machine that gets slower meanwhile slows all.

    A prompt is shortened to what every model's positions hold beside what is written.

    Raises:
        Refused: for models that do not write. BadInput: for counts below 1, or more to write than there are positions.
    """
    for model in models:
        if not model.anatomy.has_unembedding() or not model.anatomy.family.causal:
            raise Refused(f"{model.name} writes nothing: it is no causal language model")
    if min(prompt, new, repeats, *batches) < 1 or warmup < 0:
        raise BadInput("prompt, new, repeats and batches are 1 or more, warmup is 0 or more")
    room = min(_room(model, new) for model in models)
    if room < 1:
        raise BadInput(f"{new} tokens to write are more than a model has positions; write fewer")
    prompt = min(prompt, room)
    speeds = [_speeds(models, size, prompt, new, warmup, repeats, seed) for size in batches]
    return tuple(
        replace(_sizes(model, prompt, seed), speed=tuple(each), prompt=prompt, new=new, repeats=repeats)
        for model, each in zip(models, zip(*speeds, strict=True), strict=True)
    )


def _room(model: Model, new: int) -> int:
    """Tokens of a prompt behind which so many are written and the cache is weighed without leaving the positions."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    return int(positions) - max(new + 1, _WEIGHED)


def _sizes(model: Model, prompt: int, seed: int) -> Cost:
    """Parameters, bytes and cache of a model, without any speed."""
    weights = {id(p): p for p in model.net.parameters()}
    ends = {id(p) for p in _ends(model)}
    count = sum(p.numel() for p in weights.values())
    growing, fixed = _cache_bytes(model, prompt, seed)
    return Cost(
        layers=model.anatomy.n_layers,
        parameters=count,
        embedding_share=sum(p.numel() for key, p in weights.items() if key in ends) / count,
        bytes=sum(p.numel() * p.element_size() for p in weights.values()),
        kv_bytes=growing,
        state_bytes=fixed,
        speed=(),
        prompt=0,
        new=0,
        repeats=0,
        threads=torch.get_num_threads(),
        device=model.device.type,
    )


def _ends(model: Model) -> Iterator[Tensor]:
    """Weights of the embedding and the unembedding."""
    net = cast(Any, model.net)
    for module in (net.get_input_embeddings(), net.get_output_embeddings()):
        if module is not None:
            yield from module.parameters()


def _ids(model: Model, rows: int, tokens: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    high = max(4, model.anatomy.d_vocab)
    return torch.randint(3, high, (rows, tokens), generator=generator).to(model.device)


def _speeds(
    models: Sequence[Model], rows: int, prompt: int, new: int, warmup: int, repeats: int, seed: int
) -> tuple[Speed, ...]:
    """The speed of each model at one batch size, in turns."""
    ids = [_ids(model, rows, prompt, seed) for model in models]
    rounds = [
        [_times(model, each, new) for model, each in zip(models, ids, strict=True)]
        for _ in range(warmup + repeats)
    ]
    return tuple(_speed(times, rows, prompt, new) for times in zip(*rounds[warmup:], strict=True))


def _speed(times: Sequence[tuple[float, float]], rows: int, prompt: int, new: int) -> Speed:
    """Medians and ranges from seconds of reading and writing."""
    first = [rows * prompt / reading for reading, _ in times]
    rest = [rows * new / writing for _, writing in times]
    return Speed(rows, median(first), median(rest), (min(first), max(first)), (min(rest), max(rest)))


def _times(model: Model, ids: Tensor, new: int) -> tuple[float, float]:
    """Seconds until the first token is written, and from there until `new` more are."""
    import transformers

    settings: Any = transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=new + 1,
        eos_token_id=None,
        pad_token_id=0,
        use_cache=True,
    )
    net, clock = cast(Any, model.net), _Clock(model, ids.shape[1], new)
    own, net.generation_config = (
        net.generation_config,
        settings,
    )  # its own end-of-text ids would cut rows short
    try:
        with torch.no_grad():
            begun = clock.now()
            net.generate(
                ids, generation_config=settings, stopping_criteria=transformers.StoppingCriteriaList([clock])
            )
    finally:
        net.generation_config = own
    return clock.first - begun, clock.last - clock.first


class _Clock:
    """Notes when the first and the last token were there, from inside generation."""

    def __init__(self, model: Model, prompt: int, new: int) -> None:
        self.model, self.prompt, self.new = model, prompt, new
        self.first = self.last = 0.0

    def __call__(self, ids: Tensor, scores: object, **more: Any) -> Tensor:
        del scores, more
        written = ids.shape[1] - self.prompt
        if written == 1:
            self.first = self.now()
        if written == self.new + 1:
            self.last = self.now()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    def now(self) -> float:
        """Seconds, what was queued on an accelerator done."""
        _settle(self.model)
        return time.perf_counter()


def _settle(model: Model) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _cache_bytes(model: Model, prompt: int, seed: int) -> tuple[float, float]:
    """Bytes of the cache of one row: added by each token beyond the prompt, and those that stay."""
    short, long = (_held(model, prompt + more, seed) for more in (0, _WEIGHED))
    growing = (long - short) / _WEIGHED
    return growing, short - growing * prompt


def _held(model: Model, tokens: int, seed: int) -> int:
    with torch.no_grad():
        out = model.net(input_ids=_ids(model, 1, tokens, seed), use_cache=True, return_dict=True)
    names = ("past_key_values", "cache_params", "state")
    return sum(
        {t.data_ptr(): t.numel() * t.element_size() for n in names for t in _tensors(out.get(n))}.values()
    )


def _tensors(held: Any, depth: int = 8) -> Iterator[Tensor]:  # noqa: ANN401  (caches of many classes)
    if isinstance(held, Tensor):
        if held.numel():
            yield held
    elif depth and isinstance(held, Mapping):
        yield from (t for value in held.values() for t in _tensors(value, depth - 1))
    elif depth and isinstance(held, list | tuple):
        yield from (t for value in held for t in _tensors(value, depth - 1))
    elif depth and hasattr(held, "__dict__") and not isinstance(held, type):
        yield from _tensors(vars(held), depth - 1)
