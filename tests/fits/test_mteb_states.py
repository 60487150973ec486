"""States behind the mteb library: one pass for all, names of their own, and the library's own mock tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depthscope.engine.pooled import pooled
from depthscope.errors import BadInput
from depthscope.fits.mteb_states import TASKS, encoders, mteb_scores
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

TEXTS = ["one text", "another", "one text", "a third"]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", torch.float32)


def test_a_text_is_read_once_for_all_states(model: Model) -> None:
    every = encoders(model)
    assert len(every) == model.anatomy.n_layers + 1
    expected = pooled(model, TEXTS, norm=True).vectors
    for encoder in every:
        found = encoder.encode([{"text": TEXTS[:3]}, {"text": TEXTS[3:]}], hf_split="test")
        np.testing.assert_allclose(found, expected[encoder.state], rtol=1e-6)
    assert every[0].cache.read == 3
    assert len({encoder.name for encoder in every}) == len(every)


def test_only_the_layers_that_are_needed_run(model: Model) -> None:
    first, second = encoders(model, [0, 1], norm=False)
    first.encode([{"text": TEXTS}])
    assert next(iter(first.cache.kept.values())).shape[0] == 2
    assert second.cache is first.cache
    with pytest.raises(BadInput, match="states 0 to"):
        encoders(model, [9])


def test_similarities_are_cosines(model: Model) -> None:
    encoder = encoders(model, [1])[0]
    a, b = np.asarray([[3.0, 4.0], [1.0, 0.0]]), np.asarray([[4.0, 3.0], [0.0, 2.0]])
    torch.testing.assert_close(encoder.similarity(a, b), torch.tensor([[0.96, 0.8], [0.8, 0.0]]))
    torch.testing.assert_close(encoder.similarity_pairwise(a, b), torch.tensor([0.96, 0.0]))


def test_the_papers_tasks_are_thirty_two() -> None:
    assert [len(names) for names in TASKS.values()] == [10, 6, 3, 4, 9]


@pytest.mark.filterwarnings("ignore")  # of the library and of two items a class
def test_the_librarys_own_evaluators_score_every_state(model: Model) -> None:
    mocks = pytest.importorskip("mteb.mocks", reason="mteb is an extra: pip install 'depthscope[eval]'")
    tasks = [mocks.MockClassificationTask(), mocks.MockSTSTask()]
    every = encoders(model, [0, 2])
    found = mteb_scores(every, tasks)
    assert {name: len(scores) for name, scores in found.items()} == {t.metadata.name: 2 for t in tasks}
    assert all(np.isfinite(scores).all() for scores in found.values())
    assert every[0].cache.read == len(every[0].cache.kept)
