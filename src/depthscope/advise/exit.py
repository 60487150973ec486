"""Early exits with their true price: the caches that a skipped layer leaves empty, and speculation by the first layers.

A token that leaves after layer k has no keys and values in the layers above, and later tokens look for them there. The
simulation fills them in the cheapest way, by handing the state at the exit to every layer above, which is the same as
skipping those layers at that position. What that costs shows only in text that the model writes itself, since each
position stands on the ones before. `speculated` runs the lossless use of the first layers for real.

Sources: Schuster et al. 2022 (arXiv 2207.07061, section on state copying); Elhoushi et al. 2024 (arXiv 2404.16710,
LayerSkip: drafting by an early exit). An ordinary checkpoint was not trained for either.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.edits import Edit, skip
from depthscope.runtime.hooks import Tape, hooked
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run


@dataclass(frozen=True)
class Exits:
    """When a token leaves: at the first state from `floor` on whose most likely token has this probability.

    Args:
        floor: the first state that is looked at, 1..L. confidence: 0 always leaves at the floor, above 1 never leaves.
    """

    floor: int
    confidence: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, floor=at_least(1, what="a state"), confidence=at_least(0))


@dataclass(frozen=True)
class Written:
    """A continuation: its tokens, and the state at which each was read off."""

    ids: tuple[int, ...]
    states: tuple[int, ...]


def written(
    model: Model,
    prompt: Sequence[int],
    exits: Exits,
    tokens: int = 64,
    lens: Lens = LOGIT,
    copied: bool = True,
) -> Written:
    """Continue a prompt greedily under exits; the prompt, and with it the first token, goes through all layers.

    Args:
        copied: layers above a token's exit see its state there (True), or everything is computed for later tokens as if
            it had not left (False), which no cache could hold: the difference is the price of the copy.

    Every token reads everything again, so a continuation costs tokens x (prompt + tokens) positions.

    Raises:
        Refused: for models that do not write text. BadInput: for a floor beyond the last state, or an empty prompt.
    """
    _refuse(model, prompt, exits, tokens)
    last = model.anatomy.n_layers
    ids, left = list(prompt), [last] * len(prompt)
    for k in range(tokens):
        states = _states(model, ids, _copies(left, last) if copied else [])
        token, left[-1] = _leaving(model, states, exits if k else Exits(last), lens)
        ids.append(token)
        left.append(last)
    return Written(tuple(ids[len(prompt) :]), tuple(left[len(prompt) - 1 : -1]))


def _copies(left: Sequence[int], last: int) -> list[Edit]:
    """Skips of every layer at the positions that left before it; the newest position has left nowhere yet."""
    where = torch.tensor(left)
    return [skip(layer, at=where <= layer) for layer in range(min(left), last)]


def _states(model: Model, ids: Sequence[int], edits: Sequence[Edit]) -> Tensor:
    """All states at the last position, [state, 1, d_model]."""
    seen = run(model, Batch.of_ids([list(ids)]), read=("L0.resid_pre", "L*.resid_post"), edit=edits)
    return torch.stack([seen[site][0, -1:] for site in model.anatomy.states()]).to(model.head.precision)


def _leaving(model: Model, states: Tensor, exits: Exits, lens: Lens) -> tuple[int, int]:
    """The token, and the state it is read off: the last one where no earlier is sure enough.

    States below the floor are not decoded: nobody looks at them.
    """
    with torch.no_grad():
        logits = model.head.logits(lens(states)[exits.floor :, 0])
    sure = torch.softmax(logits, dim=-1).amax(-1) >= exits.confidence
    last = len(sure) - 1
    found = next((k for k in range(last) if bool(sure[k])), last)
    return int(logits[found].argmax()), exits.floor + found


@dataclass(frozen=True)
class Continued:
    """Prompts that were continued whole, with exits and exact caches, and with exits and copied states.

    Args:
        states: at which each token was read off with copied states, [prompt, token]. agreement: share of those tokens
            that the whole model would have written, [prompt]. losses: of the whole model on what was written, nats a
            token, [prompt], by "whole", "exact" and "copied".
    """

    states: np.ndarray
    agreement: np.ndarray
    losses: dict[str, np.ndarray]

    def as_dict(self) -> dict[str, Any]:
        """What was found as JSON."""
        losses = {name: each.tolist() for name, each in self.losses.items()}
        return {"states": self.states.tolist(), "agreement": self.agreement.tolist(), "losses": losses}

    @classmethod
    def read(cls, stored: dict[str, Any]) -> Continued:
        """What `as_dict` gave."""
        losses = {name: np.asarray(each) for name, each in stored["losses"].items()}
        return cls(np.asarray(stored["states"]), np.asarray(stored["agreement"]), losses)


def continued(
    model: Model, prompts: Sequence[Sequence[int]], exits: Exits, tokens: int = 64, lens: Lens = LOGIT
) -> Continued:
    """Continue every prompt three times: whole, with exits and exact caches, and with exits and copied states.

    Raises:
        BadInput: for no prompt. What `written` raises.
    """
    if not prompts:
        raise BadInput("no prompt was given; exits are judged on text that the model continues")
    kinds = {"whole": (Exits(model.anatomy.n_layers), True), "exact": (exits, False), "copied": (exits, True)}
    losses: dict[str, list[float]] = {name: [] for name in kinds}
    states: list[tuple[int, ...]] = []
    agreement: list[float] = []
    for prompt in prompts:
        for name, (rule, copied) in kinds.items():
            new = written(model, prompt, rule, tokens, lens, copied)
            loss, own = _judged(model, prompt, new.ids)
            losses[name].append(float(loss.mean()))
            if name == "copied":
                states.append(new.states)
                agreement.append(float(own.mean()))
    return Continued(np.asarray(states), np.asarray(agreement), {k: np.asarray(v) for k, v in losses.items()})


def _judged(model: Model, prompt: Sequence[int], new: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each new token under the whole model, and whether it is the one that model would have written."""
    states = run(model, Batch.of_ids([[*prompt, *new]]), read=[model.anatomy.states()[-1]])
    stream = states[model.anatomy.states()[-1]][0, len(prompt) - 1 : -1].to(model.head.precision)
    with torch.no_grad():
        logits = model.head.logits(stream)
    ids = torch.tensor(list(new), device=logits.device)
    loss = torch.nn.functional.cross_entropy(logits, ids, reduction="none")
    return loss.double().cpu().numpy(), (logits.argmax(-1) == ids).double().cpu().numpy()


@dataclass(frozen=True)
class Speculation:
    """Drafts by the first layers, checked by all of them: the same text, measured.

    Args:
        accepted: share of drafted tokens that the whole model kept. drafted: tokens. rounds: passes of the whole model.
        speed, plain: tokens a second with and without drafts, on this machine as it was. same: whether texts are equal.
    """

    layer: int
    accepted: float
    drafted: int
    rounds: int
    tokens: int
    speed: float
    plain: float
    same: bool


def speculated(model: Model, prompt: Sequence[int], layer: int, tokens: int = 64) -> Speculation:
    """Write greedily with and without transformers' `assistant_early_exit=layer`; calls of both end blocks are counted.

    Raises:
        Refused: for models that do not write text, or whose network cannot draft that way.
        BadInput: for a layer outside 1..L-1, or an empty prompt.
    """
    last = model.anatomy.n_layers
    _refuse(model, prompt, Exits(min(max(layer, 1), last)), tokens)
    if not 1 <= layer < last:
        raise BadInput(f"layer={layer} drafts with the first layers; give 1 to {last - 1}")
    if not hasattr(model.net, "generate"):
        raise Refused(f"{model.name} has no generate method of transformers")
    plain, seconds, _ = _timed(model, prompt, tokens)
    config: Any = getattr(model.net, "base_model", model.net).config
    depth = config.num_hidden_layers
    try:
        drafted, faster, passes = _timed(model, prompt, tokens, assistant_early_exit=layer)
    except (
        ValueError,
        IndexError,
    ) as error:  # states that cannot go back, or a cache cut to the drafting layers
        said = str(error).strip().split("\n")[0]
        raise Refused(
            f"the generate method of transformers cannot let the first layers of {model.name} draft: {said}"
        ) from error
    finally:
        config.num_hidden_layers = depth  # a draft that fails leaves the number of its own layers there
    first, rounds = passes
    if first == rounds:
        raise Refused(f"{model.name} ran all its layers in every pass; its network knows no early exit")
    accepted = (len(drafted) - rounds) / (first - rounds)
    return Speculation(
        layer, max(0.0, accepted), first - rounds, rounds, len(drafted), len(drafted) / faster, len(plain) / seconds,
        drafted == plain,
    )  # fmt: skip


def _timed(
    model: Model, prompt: Sequence[int], tokens: int, **more: Any
) -> tuple[list[int], float, tuple[int, int]]:
    """New ids, seconds, and passes through the first and the last block."""
    row = torch.tensor([list(prompt)], device=model.device)
    passes = [0, 0]

    def counting(place: int) -> Any:  # noqa: ANN401
        def count(*_: object) -> None:
            passes[place] += 1

        return count

    blocks = (model.anatomy.layers[0].block, model.anatomy.layers[-1].block)
    net: Any = model.net
    with hooked([Tape(block, counting(k)) for k, block in enumerate(blocks)]), torch.no_grad():
        begun = time.perf_counter()
        found = net.generate(
            row,
            attention_mask=torch.ones_like(row),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            **more,
        )
        seconds = time.perf_counter() - begun
    return found[0, len(prompt) :].tolist(), seconds, (passes[0], passes[1])


def _refuse(model: Model, prompt: Sequence[int], exits: Exits, tokens: int) -> None:
    if not model.anatomy.has_unembedding() or not model.anatomy.family.causal:
        raise Refused(f"{model.name} writes no text: it is no causal language model with an unembedding")
    if exits.floor > model.anatomy.n_layers:
        raise BadInput(f"floor={exits.floor}, but {model.name} has states 0 to {model.anatomy.n_layers}")
    if not prompt or tokens < 1:
        raise BadInput(f"a prompt of {len(prompt)} tokens and {tokens} to write; give at least one of each")
