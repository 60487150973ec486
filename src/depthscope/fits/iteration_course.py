"""How a small transformer is trained on sequences of steps: its sizes, its batches, its loss, what it gets right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from depthscope.errors import BadInput, UnknownName
from depthscope.fits.pair_nets import made
from depthscope.materials.iteration import EQUALS, STOP, TASKS, WORDS, coded, drawn
from depthscope.ranges import above, at_least, check_ranges


@dataclass(frozen=True)
class IterationCourse:
    """A network of GPT-2's form and its training on fresh random sequences.

    Adam on the cross-entropy of the steps and of the full stop behind them; the rate rises over the first fiftieth of
    the steps and then stays. Every sequence of a step has a length of its own, drawn evenly.

    Args:
        task: copy, parity or polynomial. longest: the most inputs. held_out: lengths that are never trained on.
        layers, heads, d_model: of the network. steps, rows, lr: of the training; every: steps between checkpoints.
        offset: full stops before a sequence, drawn from 0 to this; with it positions say less of the length.
        room: the most inputs that its positions have room for; those above `longest` are never trained on.

    Raises:
        UnknownName: for an unknown task. BadInput: for sizes that leave nothing to train.
    """

    task: str = "polynomial"
    longest: int = 8
    held_out: tuple[int, ...] = ()
    layers: int = 2
    heads: int = 1
    d_model: int = 64
    steps: int = 1000
    rows: int = 256
    lr: float = 1e-3
    every: int = 100
    offset: int = 0
    room: int = 12

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UnknownName("task of iteration", self.task, TASKS)
        check_ranges(
            self,
            longest=at_least(1),
            layers=at_least(1),
            heads=at_least(1),
            steps=at_least(1),
            rows=at_least(1),
            every=at_least(1),
            lr=above(0),
            offset=at_least(0),
        )
        if self.d_model % self.heads or not self.lengths():
            raise BadInput(
                f"d_model={self.d_model}, heads={self.heads}, longest={self.longest}: d_model is a multiple of heads, "
                "and one length at least is trained on"
            )

    def lengths(self) -> tuple[int, ...]:
        """Lengths that are trained on."""
        return tuple(n for n in range(1, self.longest + 1) if n not in self.held_out)

    def saved(self) -> tuple[int, ...]:
        """The steps whose checkpoint is kept: 0, every so many, and the last."""
        return tuple(sorted({*range(0, self.steps, self.every), self.steps}))

    def rate(self, step: int) -> float:
        """The rate of the step after `step` steps."""
        return self.lr * min(1.0, (step + 1) / max(1, self.steps // 50))

    def config(self) -> Any:  # noqa: ANN401  (a transformers configuration)
        """The configuration; `iteration` in it says what the network was trained on."""
        from transformers import GPT2Config

        positions = 2 * max(self.room, self.longest) + 3 + self.offset
        about = {"task": self.task, "lengths": list(self.lengths()), "offset": self.offset}
        config = GPT2Config(
            vocab_size=len(WORDS), n_positions=positions, n_embd=self.d_model, n_layer=self.layers, n_head=self.heads,
            tie_word_embeddings=False, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=STOP,
            eos_token_id=STOP, pad_token_id=STOP, use_cache=False, initializer_range=(3 * self.d_model) ** -0.5,
        )  # fmt: skip
        config.iteration = about  # a word of ours; transformers keeps it in config.json
        return config

    def batch(self, step: int, seed: int) -> tuple[Int[Tensor, "row token"], Int[Tensor, "row token"]]:
        """Ids and targets of a step, -100 where nothing is asked; they depend on the seed and the step alone."""
        rng = np.random.default_rng([seed, step])
        widest = 2 * self.longest + 3 + self.offset
        ids = np.full((self.rows, widest), STOP)
        targets = np.full((self.rows, widest), -100)
        lengths = rng.choice(np.array(self.lengths()), self.rows)
        for length in np.unique(lengths):
            at = np.flatnonzero(lengths == length)
            offset = int(rng.integers(0, self.offset + 1))
            words = coded(self.task, drawn(self.task, len(at), int(length), rng), offset)
            end = offset + 1 + int(length)
            ids[at, : words.shape[1]] = words
            targets[at, end : words.shape[1] - 1] = words[:, end + 1 :]
        return torch.from_numpy(ids), torch.from_numpy(targets)


def drawn_net(course: IterationCourse, seed: int) -> nn.Module:
    """The network with random weights; tokens and positions are as long as each other and much longer than GPT-2's.

    Under GPT-2's own small weights other circuits than iteration heads are learnt.
    """
    net = made(course.config(), seed)
    base: Any = net.base_model
    with torch.no_grad():
        for table in (base.wte, base.wpe):
            nn.init.normal_(table.weight)
    return net


def loss_of(
    net: nn.Module, ids: Int[Tensor, "row token"], targets: Int[Tensor, "row token"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of the tokens that are asked for."""
    logits = net(input_ids=ids).logits
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


@torch.no_grad()
def right_sequences(net: nn.Module, task: str, length: int, rows: int = 256, seed: int = 1) -> float:
    """Share of fresh sequences whose every step is predicted; so many are right as well when the net reads itself."""
    inputs = drawn(task, rows, length, np.random.default_rng([seed, length, 2**20]))
    ids = torch.from_numpy(coded(task, inputs))
    end = 1 + length
    assert bool((ids[:, end] == EQUALS).all())
    said = net(input_ids=ids).logits[:, end : end + length].argmax(-1)
    return float((said == ids[:, end + 1 : end + 1 + length]).all(1).double().mean())


def tokenizer() -> Any:  # noqa: ANN401  (of transformers)
    """One token a word of WORDS; every other word is read as the full stop."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="."))  # pyright: ignore[reportCallIssue]
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=".", eos_token=".", pad_token=".")
