"""Generation under edits: greedy or seeded sampling, one row, with the model's own cache or without it.

Law: with the cache and without it the tokens are the same. Every step goes through the whole network, its edits
installed for the length of that step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused
from depthscope.runtime.edits import Edit
from depthscope.runtime.hooks import hooked
from depthscope.runtime.model import Model
from depthscope.runtime.wiring import taps

_CACHES = ("past_key_values", "cache_params", "state")
"""The names under which architectures hand out their cache and take it back."""


@dataclass(frozen=True)
class Generated:
    """What a model wrote.

    Args:
        ids: the new tokens, the one that ended it included.
        text: the new text without that token, cut before a stop text; None where there is no tokenizer.
        logprobs: log-probability in nats of each new token under the model (edited, at temperature 1).
        prompt: the ids that were read. ended: whether a stop was met or `max_new_tokens` were written.
    """

    ids: tuple[int, ...]
    text: str | None
    logprobs: tuple[float, ...]
    prompt: tuple[int, ...]
    ended: Literal["stop", "length"]


def generate(
    model: Model,
    prompt: str | Sequence[int] | Tensor,
    *,
    max_new_tokens: int,
    edit: Iterable[Edit] = (),
    temperature: float = 0.0,
    seed: int = 0,
    use_cache: bool = True,
    stop: Sequence[int | str] | None = None,
    chat: bool = False,
) -> Generated:
    """Continue a prompt.

    Args:
        model: a causal language model.
        prompt: text, or token ids [token].
        max_new_tokens: the most tokens to write.
        edit: act on every token, read or written, and at every step. An edit with `at` [token of the prompt] acts on
            the prompt only. With a cache an edit sees one token at a time after the prompt.
        temperature: 0 is greedy (the lowest id among equals); otherwise logits are divided by it and sampled.
        seed: of the sampling; it has its own generator, so nothing else changes the draw.
        use_cache: off reads everything again at each step.
        stop: token ids, or texts; None means the model's own end-of-text ids, () never stops early.
        chat: put the prompt through the tokenizer's chat template as a user's message.

    Raises:
        Refused: for encoders, models without an unembedding, and a chat without a template.
        BadInput: for an empty prompt, more tokens than the model reads, a negative temperature, or stop texts without a
            tokenizer.

    Example:
        >>> len(ds.generate(model, "a text", max_new_tokens=3, stop=()).ids)
        3
    """
    ids = _prompt_ids(model, prompt, chat)
    if max_new_tokens < 1 or temperature < 0:
        raise BadInput(
            f"max_new_tokens must be 1 or more and temperature 0 or more, got {max_new_tokens}, {temperature}"
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest and len(ids) + max_new_tokens > longest:
        raise BadInput(
            f"{len(ids)} + {max_new_tokens} tokens do not fit: {model.name} reads at most {longest}"
        )
    ends, texts = stops(model, stop)
    draw = _drawing(temperature, seed)
    written: list[int] = []
    logprobs: list[float] = []
    for logits in _steps(model, ids, written, tuple(edit), use_cache, max_new_tokens):
        token = draw(logits)
        written.append(token)
        logprobs.append(float(torch.log_softmax(logits, dim=-1)[token]))
        if token in ends or _met(model, written, texts) is not None:
            return Generated(
                tuple(written), text_of(model, written, ends, texts), tuple(logprobs), tuple(ids), "stop"
            )
    return Generated(
        tuple(written), text_of(model, written, ends, texts), tuple(logprobs), tuple(ids), "length"
    )


def _prompt_ids(model: Model, prompt: str | Sequence[int] | Tensor, chat: bool) -> list[int]:
    name = model.name
    if not model.anatomy.has_unembedding() or not model.anatomy.family.causal:
        raise Refused(f"{name} cannot generate: it is no causal language model with an unembedding")
    if chat or isinstance(prompt, str):
        if model.tokenizer is None or not isinstance(prompt, str):
            raise BadInput(
                f"a text prompt needs a tokenizer and a chat needs a text; {name} got {type(prompt).__name__}"
            )
        prompt = _chat_ids(model, prompt) if chat else model.tokenizer.encode(prompt)
    ids = [int(i) for i in torch.as_tensor(prompt).flatten()]
    if not ids:
        raise BadInput("the prompt has no tokens; give at least one")
    return ids


def _chat_ids(model: Model, prompt: str) -> list[int]:
    if not getattr(model.tokenizer, "chat_template", None):
        raise Refused(f"the tokenizer of {model.name} has no chat template; leave chat off")
    said = [{"role": "user", "content": prompt}]
    return model.tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]


def stops(model: Model, stop: Sequence[int | str] | None) -> tuple[frozenset[int], tuple[str, ...]]:
    """Ids and texts that end the writing."""
    if stop is None:
        settings = getattr(model.net, "generation_config", None)
        own = [getattr(holder, "eos_token_id", None) for holder in (settings, model.config, model.tokenizer)]
        each = [ids if isinstance(ids, list) else [ids] for ids in own]
        return frozenset(int(i) for ids in each for i in ids if i is not None), ()
    texts = tuple(s for s in stop if isinstance(s, str))
    if texts and (model.tokenizer is None or "" in texts):
        raise BadInput(f"stop texts need a tokenizer and may not be empty, got {texts}")
    return frozenset(s for s in stop if isinstance(s, int)), texts


def _drawing(temperature: float, seed: int) -> Callable[[Tensor], int]:
    """How the next id is chosen from logits [vocab]."""
    if temperature == 0:
        return lambda logits: int(logits.argmax())  # the first of equals
    generator = torch.Generator().manual_seed(seed)

    def draw(logits: Tensor) -> int:
        probabilities = torch.softmax(logits.double().cpu() / temperature, dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=generator))

    return draw


def _steps(
    model: Model, prompt: list[int], written: list[int], edit: tuple[Edit, ...], use_cache: bool, most: int
) -> Iterator[Tensor]:
    """Logits [vocab] for each next token; `written` grows outside between two steps."""
    cache: Mapping[str, Any] = {}
    for _ in range(most):
        reads = [*prompt, *written]
        if cache:
            reads, first = reads[-1:], len(reads) - 1
        else:
            first = 0
        output = _forward(model, reads, [_on_prompt(e, len(prompt), first) for e in edit], use_cache, cache)
        if use_cache:
            cache = _cache_of(output)
        yield output.logits[0, -1].detach().to(torch.promote_types(output.logits.dtype, torch.float32))


def _forward(
    model: Model, ids: Sequence[int], edit: Sequence[Edit], use_cache: bool, cache: Mapping[str, Any]
) -> Any:  # noqa: ANN401  (the network's own output class)
    known = inspect.signature(model.net.forward).parameters
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    row = torch.tensor([list(ids)], device=model.device)
    with torch.no_grad(), hooked(taps(model.anatomy, (), edit, {}, len(ids))):
        return model.net(input_ids=row, use_cache=use_cache, return_dict=True, **last_only, **cache)


def _cache_of(output: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """The cache under the name by which it is given back; empty where the architecture hands none out."""
    found = ((name, getattr(output, name, None)) for name in _CACHES)
    return {name: cache for name, cache in found if cache is not None}


def _on_prompt(edit: Edit, prompt: int, first: int) -> Edit:
    """An edit with positions, restricted to the tokens of the prompt among those of this step."""
    if edit.at is None:
        return edit
    at = edit.at if edit.at.dim() == 2 else edit.at[None]
    if at.shape != (1, prompt):
        raise BadInput(f"{edit.label} is at positions {tuple(edit.at.shape)}, the prompt has {prompt} tokens")
    within = replace(edit, at=at)

    def change(value: Tensor, stream: Tensor) -> Tensor:
        if first >= prompt:
            return value
        changed = within.apply(value[:, :prompt], stream[:, :prompt])
        return torch.cat([changed, value[:, prompt:]], dim=1)

    return replace(edit, change=change, at=None)


def _met(model: Model, written: Sequence[int], texts: Sequence[str]) -> int | None:
    """Where the first stop text begins in the text of the new tokens, or None."""
    if not texts:
        return None
    said = model.tokenizer.decode(list(written))
    return min((said.index(text) for text in texts if text in said), default=None)


def text_of(
    model: Model, written: Sequence[int], ends: frozenset[int], texts: Sequence[str] = ()
) -> str | None:
    """New tokens as text, without the token that ended them and cut before a stop text; None without a tokenizer."""
    if model.tokenizer is None:
        return None
    kept = list(written[:-1] if written[-1] in ends else written)
    return model.tokenizer.decode(kept)[: _met(model, kept, texts)] if kept else ""
