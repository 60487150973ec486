"""A matched pair: a small transformer and a small Mamba, trained from scratch on the same tokens.

Both read the same windows in the same order, through one tokenizer trained on the same text; they have the same width
and about the same number of parameters, the same steps and the same descent. Checkpoints at steps 0, 1, 2, 4, ... and
at the last one load with plain transformers, so every analysis runs on them; with several seeds a difference between
the two can be told from the luck of one training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from dataclasses import field as made
from pathlib import Path
from typing import Any

from filelock import FileLock

import depthscope
from depthscope.engine.journal import Journal
from depthscope.errors import RunMismatch
from depthscope.fits.checkpoint import Checkpoint
from depthscope.fits.pair_nets import FAMILIES, PairSizes, parameters
from depthscope.fits.pair_text import saved_tokenizer, whole_windows
from depthscope.fits.pair_training import PairCourse, PairTraining
from depthscope.fits.states import split
from depthscope.fits.watch import SILENT, Watch
from depthscope.materials.text import read
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.store.atomic import make_folder, read_json, write_json

CARD = "pair.json"


@dataclass(frozen=True)
class MatchedPair:
    """What is trained, on what and how.

    Args:
        text, field: see `materials.text.read`. window: tokens a window; all are full.
        vocabulary: tokens of the tokenizer that is trained on the text.
        held_out: share of the documents that the losses are taken on.
        seed: of the first training; the order of the text and the weights depend on it. seeds: trainings of each.
        families: which of the two to train.
    """

    text: str | Path | None = None
    field: str = "text"
    window: int = 64
    vocabulary: int = 1024
    sizes: PairSizes = made(default_factory=PairSizes)
    course: PairCourse = made(default_factory=PairCourse)
    held_out: float = 0.1
    seed: int = 0
    seeds: int = 1
    families: tuple[str, ...] = FAMILIES

    def __post_init__(self) -> None:
        check_ranges(self, seeds=at_least(1, what="trainings of each network"))
        check_names(self, families=FAMILIES)

    def run(self, out: str | Path, *, watch: Watch = SILENT, command: str = "") -> Path:
        """Train both and leave `out/FAMILY/seed-K/step-N`, each a checkpoint, and the card `pair.json`.

        The same call goes on where it was stopped; a call with more seeds trains only those.

        Raises:
            RunMismatch: when `out` holds a pair of another text or other parameters.
            BadInput, EmptyMaterial: for unusable text. NonFinite: when a loss is not finite.
        """
        folder = make_folder(Path(out))
        with FileLock(folder / ".lock"):
            source, documents = read(self.text, self.field)
            tokenizer = saved_tokenizer(documents, self.vocabulary, folder / "tokenizer")
            windows = whole_windows(documents, tokenizer, source, self.window)
            parts = split(windows, self.held_out, 0)
            journal = Journal(folder / "journal", "matched pair", windows.hash)
            key = journal.key("pair", self._fixed())
            _matching(folder, key)
            configs = self.sizes.configs(len(tokenizer), self.window)
            about = {
                "key": key, "depthscope": depthscope.__version__, "command": command, "parameters": self._fixed(),
                "data": {
                    "source": source, "hash": windows.hash, "documents": len(windows.documents),
                    "windows": len(windows.items), "tokens": windows.tokens,
                },
                "networks": {name: parameters(config) for name, config in configs.items()},
            }  # fmt: skip
            for seed in range(self.seed, self.seed + self.seeds):
                for family in self.families:
                    place = folder / family / f"seed-{seed}"
                    state = Checkpoint(journal, "training", {**self._fixed(), "family": family, "seed": seed})
                    training = PairTraining(
                        configs[family], self.course, seed, (*parts.train, *parts.validation), parts.held_out,
                        tokenizer, place, state, _told(watch, f"{family} seed {seed}", self.course.steps),
                    )  # fmt: skip
                    _finished(folder, about, family, seed, training)
        return folder

    def _fixed(self) -> dict[str, Any]:
        """The parameters that all seeds and both networks share, as JSON."""
        found = asdict(self)
        return {name: found[name] for name in ("window", "vocabulary", "sizes", "course", "held_out")}


def _matching(folder: Path, key: str) -> None:
    if (folder / CARD).exists() and read_json(folder / CARD).get("key") != key:
        raise RunMismatch(
            f"{folder} holds a pair of another text or other parameters; give another --out or remove the folder"
        )


def _finished(folder: Path, about: Mapping[str, Any], family: str, seed: int, training: PairTraining) -> None:
    """Train one network unless the card says that it is done, and write its losses into the card."""
    trained = read_json(folder / CARD)["trained"] if (folder / CARD).exists() else {}
    name = f"{family}/seed-{seed}"
    if name not in trained:
        begun = time.perf_counter()
        losses = training.run()
        seconds = round(time.perf_counter() - begun, 1)
        trained[name] = {"seconds": seconds, "loss": {str(step): loss for step, loss in losses.items()}}
    write_json(folder / CARD, {**about, "trained": trained})
    training.state.drop()


def _told(watch: Watch, phase: str, total: int) -> Callable[[int], None]:
    def told(step: int) -> None:
        watch.progress(phase, step, total)

    return told
