"""Linear maps against numpy, on planted maps, under their controls, and what they refuse."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.engine.study import Work
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.fits import linear_maps
from depthscope.fits.linear_maps import LinearMaps
from depthscope.fits.map_rows import Pair, Source
from depthscope.fits.map_sums import Maps, Solved, gathered
from depthscope.fits.states import split
from depthscope.materials.window import Window, Windows
from depthscope.results.measurement import Measurement
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny

SHARE = 0.3
SMALL: dict[str, Any] = {"held_out": SHARE, "ridge": (1e-3,)}


def work(model: Model, reading: Reading, folder: Path, **more: Any) -> Work:
    windows = reading.windows(model)
    kind, units = windows.units()
    return Work(model, windows, units, kind, Journal(folder, model.name, windows.hash), folder, **more)


def mapped(study: LinearMaps, model: Model, reading: Reading, folder: Path) -> dict[str, Measurement]:
    return dict(study.run(work(model, reading, folder)).measurements)


def states_of(model: Model, windows: tuple[Window, ...]) -> np.ndarray:
    """States [state, item, d] of some windows from position 1 on, by transformers alone (GPT-2)."""
    found, final = [], []
    hook = model.net.transformer.h[-1].register_forward_hook(lambda *call: final.append(call[-1]))
    for window in windows:
        with torch.no_grad():
            out = model.net(torch.tensor([window.ids]), output_hidden_states=True)
        last = final.pop()
        last = last[0] if isinstance(last, tuple) else last
        found.append(torch.stack([*out.hidden_states[:-1], last])[:, 0, 1:].numpy())
    hook.remove()
    return np.concatenate(found, axis=1)


def least_squares(x: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias by stacked rows: sqrt(lambda) e_i below the centred x give the penalty."""
    centred = x - x.mean(0)
    penalty = ridge * np.trace(centred.T @ centred) / x.shape[1]
    tall = np.concatenate([centred, np.sqrt(penalty) * np.eye(x.shape[1])])
    wide = np.concatenate([y - y.mean(0), np.zeros((x.shape[1], y.shape[1]))])
    weight = np.linalg.lstsq(tall, wide, rcond=None)[0]
    return weight, y.mean(0) - x.mean(0) @ weight


@pytest.mark.parametrize("differences", [False, True])
def test_errors_on_held_out_documents_are_those_of_ridge_regression_in_numpy(
    exact: Model, reading: Reading, tmp_path: Path, differences: bool
):
    study = LinearMaps(sources=(1, 3), targets=(0, 2), differences=differences, **SMALL)
    found = mapped(study, exact, reading, tmp_path)
    parts = split(reading.windows(exact), SHARE, 0)
    train, held = (states_of(exact, part) for part in (parts.train, parts.held_out))
    if differences:
        train, held = np.diff(train, axis=0), np.diff(held, axis=0)
    for m in (1, 3):
        for at, target in ((0, train[0]), (2, train[2])):
            weight, bias = least_squares(train[m], target, 1e-3)
            miss, y = held[m] @ weight + bias - held[at], held[at]
            cell = {"source": m, "layer" if differences else "state": at}
            length, norm = np.linalg.norm(miss, axis=1), np.linalg.norm(y, axis=1)
            away = y - target.mean(0)
            guess = held[m] @ weight + bias
            units = guess / np.linalg.norm(guess, axis=1)[:, None] - y / norm[:, None]
            r2 = 1 - (miss**2).sum(0) / (away**2).sum(0)
            expected = {
                "relative_error": (length / norm).mean(),
                "error_ratio": length.sum() / norm.sum(),
                "direction_error": np.linalg.norm(units, axis=1).mean(),
                "r2": 1 - (miss**2).sum() / (away**2).sum(),
                "dimension_r2": np.sort(r2)[(len(r2) - 1) // 2],
            }
            for name, value in expected.items():
                np.testing.assert_allclose(found[name].at(**cell), value, rtol=1e-6, atol=1e-9, err_msg=name)
            alone = {axis: label for axis, label in cell.items() if axis != "source"}
            mean = (np.linalg.norm(away, axis=1) / norm).mean()
            np.testing.assert_allclose(found["mean_error"].at(**alone), mean, rtol=1e-6)
    assert found["relative_error"].n_items is not None
    assert int(found["relative_error"].n_items.max()) == held.shape[1]


def turned(model: Model) -> tuple[Model, torch.Tensor]:
    """A Llama whose stream is turned by a random rotation R: all its states are those of the model times R."""
    net = copy.deepcopy(model.net)
    wide = model.anatomy.d_model
    turn = torch.linalg.qr(torch.randn(wide, wide, dtype=torch.float64))[0]
    with torch.no_grad():
        net.model.embed_tokens.weight.copy_(net.model.embed_tokens.weight @ turn)
        for block in net.model.layers:
            reads = (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
            for reader in (*reads, block.mlp.gate_proj, block.mlp.up_proj):
                reader.weight.copy_(reader.weight @ turn)
            for writer in (block.self_attn.o_proj, block.mlp.down_proj):
                writer.weight.copy_(turn.T @ writer.weight)
    return assembled(net, model.anatomy.family, "turned"), turn


@pytest.fixture(scope="module")
def plain() -> Model:
    """A Llama whose norms have no gains, so that a turned stream is read alike."""
    model = tiny("llama", torch.float64)
    with torch.no_grad():
        for name, value in model.net.named_parameters():
            if "norm" in name:
                value.fill_(1.0)
    return model


def test_a_planted_rotation_between_two_models_is_recovered(plain: Model, reading: Reading, tmp_path: Path):
    other, turn = turned(plain)
    pair = Pair(plain, other, (2,))
    parts = split(reading.windows(plain), SHARE, 0)
    solved = Solved.of(gathered(pair, (Source(2),), parts.train, lambda _: None))
    maps = Maps.of(pair, solved, torch.tensor([[1e-10]]))
    torch.testing.assert_close(maps.weights[0], turn, rtol=0, atol=1e-4)
    found = mapped(LinearMaps(target=other, held_out=SHARE, ridge=(1e-8,)), plain, reading, tmp_path)
    # the embeddings of the training text do not span the space, its later states do
    assert found["relative_error"].value.diagonal()[1:].max() < 1e-6
    assert found["best_source"].value.tolist() == [1, 2, 3, 4]
    assert found["relative_distance"].scalar() == 0


def test_a_stretched_copy_has_half_the_slope_and_keeps_relative_depth(reading: Reading, tmp_path: Path):
    model = tiny("llama", torch.float32)
    found = mapped(LinearMaps("stretched", held_out=SHARE), model, reading, tmp_path)
    assert found["best_source"].axes["state"].tolist() == list(range(1, 9))
    assert abs(found["slope_in_states"].scalar() - 0.5) < 0.1
    assert abs(found["slope"].scalar() - 1) < 0.2
    difference = found["hypothesis_difference"]
    assert difference.low is not None
    assert difference.low > 0
    assert found["rank_correlation"].scalar() > 0.9
    assert "error_by_offset" not in found


def test_a_model_onto_itself_has_its_neighbours_as_best_others_and_errors_that_grow_with_distance(
    model: Model, reading: Reading, tmp_path: Path
):
    found = mapped(LinearMaps(held_out=SHARE), model, reading, tmp_path)
    by_offset = found["error_by_offset"]
    later = [by_offset.at(offset=k) for k in range(5)]
    assert later == sorted(later)
    assert later[0] < 0.05
    assert found["neighbour_share"].scalar() == 1
    assert all(
        abs(best - own) == 1 for own, best in zip([1, 2, 3, 4], found["best_other_source"].value, strict=True)
    )


def test_rows_of_other_positions_say_no_more_than_the_mean(model: Model, reading: Reading, tmp_path: Path):
    found = mapped(LinearMaps(held_out=SHARE), model, reading, tmp_path)
    own, mean = found["shuffled_error"].value, found["mean_error"].value
    np.testing.assert_allclose(own, mean, rtol=0.1)
    assert (found["embedding_error"].value[1:] < mean[1:]).all()


def test_groups_of_sources_change_no_number(exact: Model, reading: Reading, tmp_path: Path):
    whole = mapped(LinearMaps(held_out=SHARE), exact, reading, tmp_path / "whole")
    parts = mapped(LinearMaps(held_out=SHARE, memory=1), exact, reading, tmp_path / "parts")
    assert len(Journal(tmp_path / "parts", "", "").finished()) == 6
    for name, one in whole.items():
        np.testing.assert_allclose(parts[name].value, one.value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_killed_study_repeats_no_finished_group(
    model: Model, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[Any] = []

    def gather(pair: Any, group: Any, *rest: Any) -> Any:
        if len(done) == 2 and "die" in flags:
            raise KeyboardInterrupt
        done.append(group)
        return gathered(pair, group, *rest)

    flags = {"die"}
    monkeypatch.setattr(linear_maps, "gathered", gather)
    study = LinearMaps(memory=1, sources=(0, 2, 3), targets=(1, 2), **SMALL)
    with pytest.raises(KeyboardInterrupt):
        mapped(study, model, reading, tmp_path)
    flags.clear()
    mapped(study, model, reading, tmp_path)
    assert [source.number for (source,) in done] == [0, 2, 3, 2]


def test_a_few_random_directions_estimate_the_error_of_all(exact: Model, reading: Reading, tmp_path: Path):
    asked: dict[str, Any] = {"sources": (2,), "targets": (1, 2, 3, 4), **SMALL}
    whole = mapped(LinearMaps(width=0, **asked), exact, reading, tmp_path)["relative_error"]
    few = mapped(LinearMaps(width=12, **asked), exact, reading, tmp_path)["relative_error"]
    np.testing.assert_allclose(few.value, whole.value, rtol=2 / 12**0.5)
    assert "12 random directions of 32" in few.note
    assert "directions" not in whole.note
    assert np.abs(few.value - whole.value).max() > 1e-6


def test_penalties_are_chosen_on_validation_documents(exact: Model, reading: Reading, tmp_path: Path):
    """By hand: squared errors of two penalties on all dimensions of the validation documents."""
    grid = (1e-4, 10.0)
    study = LinearMaps(sources=(3,), targets=(4,), ridge=grid, held_out=SHARE)
    found = mapped(study, exact, reading, tmp_path)
    parts = split(reading.windows(exact), SHARE, 0)
    train, judge = (states_of(exact, part) for part in (parts.train, parts.validation))
    errors = []
    for alpha in grid:
        weight, bias = least_squares(train[3], train[4], alpha)
        errors.append(((judge[3] @ weight + bias - judge[4]) ** 2).sum())
    assert found["penalty"].at(source=3, state=4) == grid[int(np.argmin(errors))]


def test_rows_of_equal_size_know_no_lengths(exact: Model, reading: Reading, tmp_path: Path):
    """Every row has root mean square 1, so its norm is the root of the width and both means are one."""
    found = mapped(LinearMaps(sources=(2,), targets=(4,), rows="rms", **SMALL), exact, reading, tmp_path)
    cell = {"source": 2, "state": 4}
    np.testing.assert_allclose(found["relative_error"].at(**cell), found["error_ratio"].at(**cell), rtol=1e-9)
    raw = mapped(LinearMaps(sources=(2,), targets=(4,), **SMALL), exact, reading, tmp_path)
    assert abs(raw["relative_error"].at(**cell) - found["relative_error"].at(**cell)) > 1e-6


def test_another_family_of_equal_depth_is_mapped_and_an_untrained_copy_too(
    model: Model, reading: Reading, tmp_path: Path
):
    other = tiny("llama", torch.float32)
    study = LinearMaps(target=other, sources=(1, 4), targets=(1, 2, 4), **SMALL)
    found = study.run(work(model, reading, tmp_path / "a"))
    assert study.other == "tiny-llama"
    assert "tiny-gpt2 onto tiny-llama" in found.notes[0]
    assert set(study.depends()["other"]) >= {"weights_hash", "model"}
    null = LinearMaps("untrained", sources=(1, 4), targets=(1, 2, 4), **SMALL)
    assert "untrained" in null.run(work(model, reading, tmp_path / "b")).notes[0]
    assert null.depends() == {}


def test_too_little_text_is_said(model: Model, reading: Reading, tmp_path: Path):
    notes = LinearMaps(sources=(1,), targets=(2,), **SMALL).run(work(model, reading, tmp_path)).notes
    assert "fewer than 30 each" in notes[1]


# ------------------------------------------------------------------------------------------------------------ refusals


def test_models_of_other_vocabularies_are_refused_with_what_differs(
    model: Model, reading: Reading, tmp_path: Path
):
    small = tiny("llama", torch.float32, vocab_size=80)
    with pytest.raises(Refused, match=r"tiny-gpt2 and tiny-llama .* 96 and 80 tokens"):
        mapped(LinearMaps(target=small), model, reading, tmp_path)
    named = replace(tiny("llama", torch.float32), tokenizer=Renamed(model.tokenizer))
    with pytest.raises(Refused, match=r"1 of 96 ids are other tokens \(id 7 is '\(' and 'seven'\)"):
        mapped(LinearMaps(target=named), model, reading, tmp_path)
    cut = replace(tiny("llama", torch.float32), tokenizer=Doubling(model.tokenizer))
    with pytest.raises(Refused, match="first different at 1"):
        mapped(LinearMaps(target=cut), model, reading, tmp_path)


class Wrapped:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return self.inner.encode(text, add_special_tokens)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return self.inner.convert_ids_to_tokens(ids)


class Renamed(Wrapped):
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [
            "seven" if k == 7 else token
            for k, token in zip(ids, super().convert_ids_to_tokens(ids), strict=True)
        ]


class Doubling(Wrapped):
    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        first, *rest = super().encode(text, add_special_tokens)
        return [first, first, *rest]


def test_models_that_read_no_text_and_windows_without_positions_are_refused(
    model: Model, reading: Reading, tmp_path: Path
):
    with pytest.raises(Refused, match="no tokenizer"):
        mapped(LinearMaps(target=tiny("vit", torch.float32)), model, reading, tmp_path)
    short = tiny("llama", torch.float32, max_position_embeddings=16)
    with pytest.raises(BadInput, match="windows of 48 tokens are longer than the 16 positions"):
        mapped(LinearMaps(target=short), model, reading, tmp_path)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"other": "streched"}, UnknownName, "stretched"),
        ({"rows": "norm"}, UnknownName, "rms"),
        ({"ridge": (0.0,)}, BadInput, "each above 0"),
        ({"width": -1}, BadInput, "width"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(asked: dict[str, Any], error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        LinearMaps(**asked)


def test_states_that_do_not_exist_are_refused(model: Model, reading: Reading, tmp_path: Path):
    with pytest.raises(BadInput, match=r"\[5\] do not exist, tiny-gpt2 has states 0 to 4"):
        mapped(LinearMaps(sources=(1, 5)), model, reading, tmp_path)
    with pytest.raises(BadInput, match=r"\[4\] do not exist, tiny-gpt2 has layers 0 to 3"):
        mapped(LinearMaps(targets=(4,), differences=True), model, reading, tmp_path)


def test_two_documents_are_too_few(model: Model, tmp_path: Path):
    ids = tuple(range(3, 40))
    windows = Windows((Window(0, "a", ids), Window(1, "b", ids)), "two", "none", 0)
    journal = Journal(tmp_path, "", "")
    with pytest.raises(BadInput, match="at least 3"):
        LinearMaps().run(Work(model, windows, ("a", "b"), "documents", journal, tmp_path))
