"""A matched pair: equal in parameters, text and order; resumed it is the same; its checkpoints load by themselves."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from depthscope.errors import BadInput, NonFinite, RunMismatch, UnknownName
from depthscope.fits import pair_training
from depthscope.fits.matched_pair import CARD, MatchedPair
from depthscope.fits.pair_nets import PairSizes, made, parameters
from depthscope.fits.pair_text import batches
from depthscope.fits.pair_training import PairCourse, next_token_loss
from depthscope.fits.watch import Watch
from depthscope.materials.window import Window
from depthscope.store.atomic import read_json

SMALL = PairSizes(d_model=16, transformer_layers=2, mamba_layers=3, heads=2, cells=2)


def pair(text: Path, **changes) -> MatchedPair:
    course = changes.pop("course", PairCourse(steps=3, rows=2))
    return MatchedPair(text, window=16, vocabulary=257, sizes=SMALL, course=course, **changes)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for k in range(10):
        (folder / f"{k}.txt").write_text(
            f"The heron number {k} stood by the canal and looked at {k + 3} fish. " * 2
        )
    return folder


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair(text).run(tmp_path_factory.mktemp("pair") / "pair", command="a command")


def test_both_networks_have_about_as_many_parameters():
    for sizes in (PairSizes(), SMALL):
        counts = [parameters(config) for config in sizes.configs(1024, 64).values()]
        assert abs(counts[0] - counts[1]) / counts[1] < 0.01
    assert parameters(SMALL.configs(300, 16)["mamba"]) == sum(
        p.numel() for p in made(SMALL.configs(300, 16)["mamba"], 0).parameters()
    )


def test_checkpoints_stand_at_powers_of_two_and_load_with_plain_transformers(trained: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for family, kind in (("transformer", "llama"), ("mamba", "mamba")):
        folder = trained / family / "seed-0"
        assert [p.name for p in sorted(folder.iterdir())] == [f"step-{k:06d}" for k in (0, 1, 2, 3)]
        net = AutoModelForCausalLM.from_pretrained(folder / "step-000003")
        tokenizer = AutoTokenizer.from_pretrained(folder / "step-000003")
        assert net.config.model_type == kind
        assert tokenizer.decode(tokenizer.encode("a heron, ö 家")) == "a heron, ö 家"


def test_the_card_says_text_sizes_and_losses(trained: Path):
    card = read_json(trained / CARD)
    assert card["command"] == "a command"
    assert set(card["trained"]) == {"transformer/seed-0", "mamba/seed-0"}
    for one in card["trained"].values():
        assert list(one["loss"]) == ["0", "1", "2", "3"]
        assert one["loss"]["3"] < one["loss"]["0"]
    assert abs(card["networks"]["transformer"] - card["networks"]["mamba"]) < 0.02 * card["networks"]["mamba"]


def test_a_killed_training_ends_as_one_that_was_not(text: Path, trained: Path, tmp_path: Path):
    def dies(phase: str, done: int, total: int) -> None:
        if phase == "mamba seed 0" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair(text).run(tmp_path / "pair", watch=Watch(dies))
    assert "mamba/seed-0" not in read_json(tmp_path / "pair" / CARD)["trained"]
    pair(text).run(tmp_path / "pair")
    for step in (1, 3):
        name = f"mamba/seed-0/step-{step:06d}/model.safetensors"
        mine, theirs = load_file(tmp_path / "pair" / name), load_file(trained / name)
        for key, value in theirs.items():
            assert_close(mine[key], value, rtol=0, atol=0)


def test_more_seeds_train_only_those(text: Path, trained: Path):
    phases: set[str] = set()
    pair(text, seeds=2, families=("transformer",)).run(
        trained, watch=Watch(lambda phase, *_: phases.add(phase))
    )
    assert phases == {"transformer seed 1"}
    first, second = (
        load_file(trained / "transformer" / f"seed-{k}" / "step-000000" / "model.safetensors") for k in (0, 1)
    )
    assert max(float((first[k] - second[k]).abs().max()) for k in first) > 1e-3


def test_a_folder_of_other_parameters_is_refused(text: Path, trained: Path):
    with pytest.raises(RunMismatch, match="another --out"):
        pair(text, course=PairCourse(steps=4, rows=2)).run(trained)


def test_every_pass_over_the_text_reads_each_window_once_in_an_order_of_the_seed():
    windows = [Window(k, "d", (k, k)) for k in range(6)]
    read = [next(batches(windows, 2, seed=0, first=k))[:, 0].tolist() for k in range(6)]
    assert sorted(chain(*read[:3])) == sorted(chain(*read[3:])) == list(range(6))
    assert read[:3] != read[3:]
    other = [next(batches(windows, 2, seed=1, first=k))[:, 0].tolist() for k in range(6)]
    assert other != read


def test_the_rate_rises_to_its_highest_and_falls_to_a_tenth():
    course = PairCourse(steps=100, lr=1.0)
    rates = [course.rate(k) for k in range(100)]
    assert rates[0] == pytest.approx(0.2, abs=1e-3)
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert PairCourse(steps=6).saved() == (0, 1, 2, 4, 6)


def test_the_loss_is_that_of_the_library():
    net = made(SMALL.configs(257, 16)["transformer"], 0)
    ids = torch.randint(0, 257, (2, 16))
    with torch.no_grad():
        assert_close(next_token_loss(net, ids), net(input_ids=ids, labels=ids).loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"seeds": 0}, BadInput, "trainings of each network.*1 or more"),
        ({"families": ("rnn",)}, UnknownName, "rnn"),
        ({"vocabulary": 100}, BadInput, "257 or more"),
        ({"window": 4096}, BadInput, "smaller --window"),
    ],
)
def test_what_cannot_be_trained_is_refused(text: Path, tmp_path: Path, changes, error, words: str):
    with pytest.raises(error, match=words):
        MatchedPair(text, **{"sizes": SMALL, **changes}).run(tmp_path / "pair")


def test_sizes_and_courses_that_cannot_be_are_refused():
    with pytest.raises(BadInput, match="multiple of twice"):
        PairSizes(d_model=10, heads=4)
    with pytest.raises(BadInput, match="steps=0 must be 1 or more"):
        PairCourse(steps=0)


def lost(net: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    del net, ids
    return torch.tensor(float("nan"))


def test_a_loss_that_is_not_finite_names_the_step(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pair_training, "next_token_loss", lost)
    with pytest.raises(NonFinite, match="at step 0 is nan"):
        pair(text).run(tmp_path / "pair")
