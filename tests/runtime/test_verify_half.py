"""Half precision: sinks are reported apart, everything else is judged, and float32 makes no exception."""

from __future__ import annotations

import pytest
import torch

from depthscope.runtime import edits, laws, run, verify
from depthscope.runtime.tiny import tiny


def verdict(dtype: torch.dtype, errors: list[float], apart: list[bool]) -> verify.Verdict:
    found = laws.Errors(torch.tensor(errors, dtype=torch.float64), apart=torch.tensor(apart))
    return verify._compared(tiny("llama", dtype), 5, "a row alone is the row in a batch", found)


def test_a_sink_beyond_the_tolerance_is_reported_and_not_judged():
    found = verdict(torch.bfloat16, [0.0, 0.004, 0.2], [False, False, True])
    assert (found.status, found.worst) == ("holds", 0.004)
    assert found.reason == "1 of 3 tokens are sinks, apart: worst 0.2"


def test_a_sink_within_the_tolerance_needs_no_word():
    assert verdict(torch.bfloat16, [0.0, 0.004, 0.02], [False, False, True]).reason == ""


def test_any_other_token_beyond_the_tolerance_breaks_the_law():
    found = verdict(torch.bfloat16, [0.0, 0.004, 0.2, 0.06], [False, False, True, False])
    assert (found.status, found.worst) == ("broken", 0.06)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, [True, False]), (torch.bfloat16, [True, True])])
def test_float32_and_texts_of_sinks_only_make_no_exception(dtype: torch.dtype, apart: list[bool]):
    assert verdict(dtype, [0.2, 0.0], apart).status == "broken"


def test_a_token_that_carries_a_massive_activation_is_a_sink(monkeypatch: pytest.MonkeyPatch):
    model = tiny("llama")
    batch = verify.probe(model)
    assert not laws.sinks(model, batch).any()
    massive = edits.add(
        "L1.resid_post", torch.full((32,), 1e3, dtype=torch.float64), at=torch.arange(12) == 7
    )
    monkeypatch.setattr(laws, "run", lambda m, b, read: run.run(m, b, read=read, edit=[massive]))
    assert laws.sinks(model, batch).nonzero()[:, 1].tolist() == [7, 7, 7]


def test_a_replay_that_leaves_a_trace_breaks_law_4(monkeypatch: pytest.MonkeyPatch):
    """A hook that outlives its replay: the clean replay at the end must see it."""
    model, real = tiny("llama", torch.float32), laws.replay
    left: list[object] = []

    def leaking(seen, start, stream, **how):
        found = real(seen, start, stream, **how)
        if how.get("edit") and start == 2 and not left:
            block = model.anatomy.layers[0].block
            left.append(block.register_forward_hook(lambda *called: called[2] * 1.01))
        return found

    monkeypatch.setattr(laws, "replay", leaking)
    (found,) = verify.verify(model, [4])
    assert found.status == "broken"
