"""Lens quality on models whose best lens is known, and against plain formulas with a lens of random numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import formulas
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from formulas import Plain
from planted import SAID, TOKEN, WIDTH, V, following, planted, rising, the_answer, value

from depthscope.analyses.lens_quality import LensQuality
from depthscope.analyses.lens_validation import LensValidation
from depthscope.analyses.logit_lens import LogitLens
from depthscope.engine.audit import audit
from depthscope.engine.lenses import beside_logit
from depthscope.engine.needs import Analysis
from depthscope.engine.shard import sampled
from depthscope.errors import BadInput, Refused
from depthscope.materials.frequency import FrequencyTable
from depthscope.materials.window import Window, Windows
from depthscope.results.result import Result
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run

LAYERS, LAST = 6, 5
JUDGED = 5  # states 0 to 4, since 0.8 * 6 = 4.8
NEXT = following(torch.eye(V, dtype=torch.float64)).T
"""The matrix that takes a one-hot token to the next one."""


def lens_of(name: str, strength: dict[int, float], says: torch.Tensor = NEXT) -> Lens:
    """A lens that adds `strength` times a function of the token to `said` at some states."""
    weight = torch.zeros(LAYERS, WIDTH, WIDTH)
    for state, size in strength.items():
        weight[state, SAID, TOKEN] = size * says.float()
    return Lens("planted", name, weight, torch.zeros(LAYERS, WIDTH))


def look(model: Model, analysis: Analysis, out: Path, lenses: list[Lens]) -> Result:
    with mock.patch("depthscope.engine.audit.verify", return_value=()):
        run = audit(model, [analysis], out=out / "run", text=rising(), tokens=10**6, window=24, lens=lenses)
    (result,) = run.values()
    return result


@pytest.fixture(scope="module")
def late() -> Model:
    """A model that says the answer in its last layer only."""
    return planted({LAST: the_answer(10.0)})


EXACT = lens_of("exact", dict.fromkeys(range(LAYERS), 10.0))
"""Maps every state onto the last one: h_L = h_s + 10 next(token)."""


def test_a_lens_that_knows_the_last_state_has_no_divergence_left(late: Model, tmp_path: Path) -> None:
    result = look(late, LensQuality(), tmp_path, [EXACT])
    assert result["kl_to_final"].axes["lens"].tolist() == ["logit", "exact"]
    kl = value(result, "kl_to_final")
    assert (kl[0, :LAYERS] > 1).all()
    np.testing.assert_allclose(kl[1], 0, atol=1e-9)
    np.testing.assert_array_equal(value(result, "top1_agreement")[1], 1)
    np.testing.assert_allclose(value(result, "excess_cross_entropy")[1], 0, atol=1e-9)
    np.testing.assert_allclose(value(result, "mass_above_final")[1], 0, atol=1e-9)
    np.testing.assert_allclose(value(result, "marginal_bias")[1], 0, atol=1e-9)
    assert (value(result, "marginal_bias")[0, :LAYERS] > 1e-3).all()


def test_the_difference_from_the_logit_lens_is_paired(late: Model, tmp_path: Path) -> None:
    result = look(late, LensQuality(), tmp_path, [EXACT])
    logit, difference = result["kl_to_final"], result["kl_difference"]
    # the exact lens has no divergence anywhere, so its difference is the logit lens's, mirrored with its interval
    np.testing.assert_array_equal(difference.value[0], 0)
    np.testing.assert_allclose(difference.value[1], -logit.value[0], atol=1e-9)
    assert logit.low is not None
    assert difference.high is not None
    np.testing.assert_allclose(difference.high[1], -logit.low[0], atol=1e-9)


def test_the_gate_passes_where_every_state_improves(late: Model, tmp_path: Path) -> None:
    result = look(late, LensQuality(), tmp_path, [EXACT])
    for name in ("gate", "gate_share", "gate_sure_share"):
        np.testing.assert_array_equal(value(result, name), [np.nan, 1])
    assert value(result, "gate_worst_difference")[1] < -1
    np.testing.assert_allclose(value(result, "weight_norm")[1], [80.0] * LAYERS + [0.0])
    np.testing.assert_array_equal(value(result, "bias_norm"), 0)


def test_the_gate_fails_at_the_state_that_is_worse(late: Model, tmp_path: Path) -> None:
    twice = NEXT @ NEXT
    spoiled = lens_of("spoiled", {0: 10.0, 1: 10.0, 3: 10.0, 4: 10.0})
    assert spoiled.weight is not None
    spoiled.weight[2, SAID, TOKEN] = 10 * twice.float()
    result = look(late, LensQuality(), tmp_path, [spoiled])
    assert value(result, "gate")[1] == 0
    np.testing.assert_allclose(value(result, "gate_share")[1], (JUDGED - 1) / JUDGED)
    assert value(result, "gate_worst_state")[1] == 2
    assert value(result, "gate_worst_difference")[1] == value(result, "kl_difference")[1, 2] > 0
    late_only = lens_of("late", {5: 10.0})
    unchanged = look(late, LensQuality(), tmp_path / "b", [late_only])
    # no better is not below
    assert value(unchanged, "gate")[1] == value(unchanged, "gate_share")[1] == 0


def test_without_another_lens_it_says_so_and_still_measures(late: Model, tmp_path: Path) -> None:
    result = look(late, LensQuality(), tmp_path, [LOGIT])
    assert result["kl_to_final"].value.shape == (1, LAYERS + 1)
    assert np.isnan(value(result, "gate")).all()
    assert "not compared with itself" in result["gate"].missing
    assert any(note.startswith("Only the logit lens was given") for note in result.findings.notes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"hash": "HASH", "source": "elsewhere"}, "fitted on this very text"),
        ({"hash": "other", "source": "given texts"}, "text of the same name"),
        ({"hash": "other", "source": "elsewhere"}, ""),
    ],
)
def test_a_lens_that_was_fitted_on_the_text_is_named(
    late: Model, data: dict[str, str], said: str, tmp_path: Path
) -> None:
    plain = look(late, LensQuality(positions=8), tmp_path / "a", [EXACT])
    about = {"data": {**data, "hash": data["hash"].replace("HASH", plain.provenance["data"])}}
    notes = look(late, LensQuality(positions=8), tmp_path / "b", [replace(EXACT, about=about)]).findings.notes
    assert [said in note and "`exact`" in note for note in notes] == ([True] if said else [])


def test_a_shard_without_a_chosen_position_adds_nothing(late: Model, tmp_path: Path) -> None:
    result = look(late, LensQuality(positions=3), tmp_path, [EXACT])
    counts = result["kl_to_final"].n_items
    assert counts is not None
    assert set(counts.ravel().tolist()) == {3}


@pytest.mark.parametrize("wrong", [{"positions": 0}, {"marginal_tokens": 0}, {"edges": (10, 5)}])
def test_parameters_that_mean_nothing_are_refused(late: Model, wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        look(late, LensQuality(**wrong), tmp_path, [EXACT])


@pytest.mark.parametrize("ids", [V, 10 * V])
def test_a_frequency_table_of_another_tokenizer_is_refused(late: Model, ids: int, tmp_path: Path) -> None:
    FrequencyTable(np.ones(ids, np.int64), "another", "elsewhere").save(tmp_path / "table.npz")
    for analysis in (
        LensQuality(table=str(tmp_path / "table.npz")),
        LensValidation(table=str(tmp_path / "table.npz")),
    ):
        with pytest.raises(Refused, match="another tokenizer"):
            look(late, analysis, tmp_path, [EXACT])


def test_a_lens_of_another_width_is_refused(late: Model, tmp_path: Path) -> None:
    narrow = Lens("ridge", "narrow", torch.zeros(LAYERS, 8, 8), torch.zeros(LAYERS, 8))
    with pytest.raises(BadInput, match="another model"):
        look(late, LensQuality(positions=8), tmp_path, [narrow])


def test_a_fitted_lens_may_not_be_called_logit() -> None:
    with pytest.raises(BadInput, match="give it another name"):
        beside_logit([lens_of("logit", {})])
    assert beside_logit([EXACT, LOGIT]) == (LOGIT, EXACT)


# ------------------------------------------------------------------------------------------------ against formulas

EDGES = (3, 9)
TEXTS = [
    f"{name}: the tide came in and took {k * k} of the {k + 3} boats away."
    for k, name in enumerate("abcdefghi")
]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_every_curve_equals_its_formula(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, seed=3)
    layers, width = model.anatomy.n_layers, model.anatomy.d_model
    torch.manual_seed(1)
    maps = 0.1 * torch.randn(layers, width, width), 0.3 * torch.randn(layers, width)
    lens = Lens("ridge", "ridge", *maps)
    analyses = [LensQuality(positions=50, edges=EDGES), LogitLens(positions=50)]
    run = audit(model, analyses, out=tmp_path / "run", text=TEXTS, tokens=400, window=32, lens=[lens])
    ids, at = read_by(run, 50)
    plain = Plain(model.net, kind)
    passes = [plain.run(row) for row in ids]
    lenses = [formulas.lens_of(plain, passes, ids, at), formulas.lens_of(plain, passes, ids, at, maps)]
    expected = {
        "lens_quality": formulas.lens_quality(lenses, ids, EDGES),
        "logit_lens": formulas.logit_lens(lenses[1]),
    }
    for analysis, numbers in expected.items():
        for name, each in numbers.items():
            found = value(run[analysis], name)
            np.testing.assert_allclose(found, each, rtol=1e-7, atol=1e-9, err_msg=f"{analysis}/{name}")
    norms = [float(np.linalg.norm(a.numpy())) for a in maps[0]]
    np.testing.assert_allclose(value(run["lens_quality"], "weight_norm")[1], [*norms, 0], rtol=1e-6)
    assert run["logit_lens"].provenance["lens"] == "ridge"
    assert "lens ridge" in run["logit_lens"]["kl_to_final"].note


def read_by(run: Run, positions: int) -> tuple[list[list[int]], dict[int, np.ndarray]]:
    """The ids of each window, and the positions that are decoded of each."""
    table = sorted(
        pq.read_table(run.path / "inputs" / "text.parquet").to_pylist(), key=lambda row: row["window"]
    )
    windows = Windows(tuple(Window(r["window"], r["document"], tuple(r["ids"])) for r in table), "", "", 0)
    return [list(w.ids) for w in windows.items], dict(sampled(windows, positions, seed=0))
