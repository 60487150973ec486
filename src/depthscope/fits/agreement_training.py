"""A small causal transformer trained on the synthetic agreement grammar, with checkpoints at log-spaced steps.

Every word is a token. A window is one sentence behind the end token and filled up with end tokens, so that a loss is
taken on words and on one end only. The checkpoints load with plain transformers: every analysis runs on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

import depthscope
from depthscope.engine.journal import Journal
from depthscope.errors import BadInput, RunMismatch
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.pair_training import PairCourse, PairTraining
from depthscope.fits.watch import SILENT, Watch
from depthscope.materials.agreement import AgreementGrammar, vocabulary
from depthscope.materials.window import Window
from depthscope.ranges import at_least, check_ranges
from depthscope.store.atomic import make_folder, read_json, write_json

CARD, END = "agreement.json", "<|endoftext|>"


@dataclass(frozen=True)
class AgreementCourse(PairCourse):
    """How the network is trained.

    Args:
        checkpoints: how many are kept, at log-spaced steps; the first is step 0, untrained.
    """

    steps: int = 1200
    rows: int = 32
    lr: float = 1e-3
    decay: float = 0.01
    checkpoints: int = 24

    def saved(self) -> tuple[int, ...]:
        """0 and steps at equal factors up to the last; fewer where whole numbers coincide."""
        spaced = np.geomspace(1, self.steps, max(2, self.checkpoints - 1))
        return tuple(sorted({0, *map(int, np.round(spaced))}))


@dataclass(frozen=True)
class AgreementTraining:
    """What is trained and how.

    Args:
        d_model, layers, heads: sizes. sentences: different sentences to train on; as many as a tenth judge the loss.
    """

    d_model: int = 128
    layers: int = 4
    heads: int = 4
    sentences: int = 12000
    course: AgreementCourse = AgreementCourse()
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self, d_model=at_least(1), layers=at_least(1), heads=at_least(1))
        if self.d_model % (2 * self.heads):
            raise BadInput(
                f"d_model={self.d_model}, heads={self.heads}: d_model is a multiple of twice the heads (rotary "
                "positions turn pairs of channels)"
            )

    def run(self, out: str | Path, *, watch: Watch = SILENT) -> Path:
        """Train and leave `out/step-N` and the card; the same call goes on where it was stopped.

        Raises:
            RunMismatch: when `out` holds another training. NonFinite: when a loss is not finite.
        """
        folder = make_folder(Path(out))
        with FileLock(folder / ".lock"):
            tokenizer = word_tokenizer()
            windows = self._windows(tokenizer)
            journal = Journal(folder / "journal", "agreement", str(len(windows)))
            key = journal.key("agreement", asdict(self))
            card = read_json(folder / CARD) if (folder / CARD).exists() else {}
            if card.get("key", key) != key:
                raise RunMismatch(f"{folder} holds another training; give another folder or remove it")
            if "loss" not in card:
                held = max(1, len(windows) // 11)
                state = Checkpoint(journal, "training", asdict(self))
                training = PairTraining(
                    self._config(len(tokenizer), len(windows[0].ids)), self.course, self.seed, windows[held:],
                    windows[:held], tokenizer, folder, state, _told(watch, self.course.steps),
                )  # fmt: skip
                losses = {str(step): loss for step, loss in training.run().items()}
                about = {
                    "key": key,
                    "depthscope": depthscope.__version__,
                    "parameters": asdict(self),
                    "loss": losses,
                }
                write_json(folder / CARD, about)
                state.drop()
        return folder

    def _windows(self, tokenizer: Any) -> list[Window]:  # noqa: ANN401
        texts = [
            s.parse.text
            for s in AgreementGrammar().sentences(self.sentences + self.sentences // 10, self.seed)
        ]
        end = tokenizer.eos_token_id
        ids = [list(tokenizer.encode(text)) for text in texts]
        longest = max(map(len, ids)) + 1
        return [Window(k, f"s-{k:06d}", tuple(i + [end] * (longest - len(i)))) for k, i in enumerate(ids)]

    def _config(self, words: int, longest: int) -> Any:  # noqa: ANN401
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=words, hidden_size=self.d_model, num_hidden_layers=self.layers, num_attention_heads=self.heads,
            num_key_value_heads=self.heads, intermediate_size=4 * self.d_model,
            max_position_embeddings=max(64, longest),
            tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=None,
        )  # fmt: skip


def word_tokenizer() -> Any:  # noqa: ANN401  (of transformers)
    """Every word of the grammar is one token; id 0 stands before every text, and ends it in training."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: k for k, word in enumerate((END, *vocabulary()))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, unk_token=END)


def _told(watch: Watch, total: int) -> Callable[[int], None]:
    def told(step: int) -> None:
        watch.progress("agreement", step, total)

    return told
