"""The planted pair: the induction head is fed by the previous-token head and by no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from wired_heads import planted_heads

from depthscope.analyses.head_composition import HeadComposition
from depthscope.analyses.induction_heads import InductionHeads
from depthscope.engine.audit import audit
from depthscope.errors import BadInput
from depthscope.results.result import Result
from depthscope.runtime.key_patch import rows_with_keys
from depthscope.runtime.model import Batch
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

TEXTS = [f"text number {k} of as many tokens" for k in range(9)]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    model = planted_heads({(0, 0): "previous", (0, 1): "copy", (1, 0): "induction"})
    out = tmp_path_factory.mktemp("pair") / "run"
    asked = [InductionHeads(12, 6, 2), HeadComposition(readers=1, length=12, examples=2)]
    return audit(model, asked, out=out, text=TEXTS, tokens=10**6, window=24, force=True)["head_composition"]


def test_the_induction_head_loses_all_its_mass_without_the_previous_token_head(result: Result) -> None:
    drop = result["key_drop"].select(other="L1H0").value
    assert drop[0, 0] == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(drop[0, 1:], 0, atol=1e-6)
    assert np.isnan(drop[1]).all()
    assert result["previous_drop"].scalar() > 0


def test_the_weights_name_the_same_head_and_silent_heads_have_no_number(result: Result) -> None:
    found = result["key_composition"].select(other="L1H0").value
    assert found[0, 0] > 0.1
    assert result["key_composition_z"].select(other="L1H0").value[0, 0] > 3
    assert found[0, 1] == pytest.approx(0, abs=1e-9)  # says tokens, which the reader's keys do not read
    assert np.isnan(found[0, 2:]).all()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_keys_of_the_own_stream_give_the_own_rows(family: str) -> None:
    model = tiny(family, torch.float64)
    batch = Batch.of_ids([[5, 9, 7, 30, 9, 11], [4, 8, 2, 3, 1, 6]])
    queries = torch.tensor([2, 5])
    seen = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    stream = seen.states()[2]
    twice = rows_with_keys(seen, 2, stream, torch.cat([stream, stream]), queries)
    plain = run(model, batch, queries=queries).pattern(2)
    assert_close(twice, torch.cat([plain, plain]), atol=1e-6, rtol=0)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="readers=0"):
        HeadComposition(readers=0).needs(tiny("llama").anatomy)
