"""One pass: what is read, when it stops, what it leaves behind, and what text becomes."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused
from depthscope.runtime import edits
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import Seen, run
from depthscope.runtime.tiny import tiny

IDS = torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(9))
STATES = ("L0.resid_pre", "L*.resid_post")


@functools.cache
def model(name: str = "llama") -> Model:
    return tiny(name, torch.float64, seed=10)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def finished(name: str, read: list[str], **how: object) -> list[int]:
    """How often each block ran to its end."""
    counts = [0] * model(name).anatomy.n_layers

    def count(layer: int) -> Tap:
        block = model(name).anatomy.layers[layer].block
        return Tap(block, "out", lambda _: counts.__setitem__(layer, counts[layer] + 1))

    with hooked([count(k) for k in range(len(counts))]):
        run(model(name), IDS, read=read, **how)  # type: ignore[arg-type]
    return counts


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (["L1.resid_post"], [1, 1, 0, 0]),
        (["L2.resid_pre", "L0.resid_post"], [1, 1, 0, 0]),
        (["L0.resid_pre"], [0, 0, 0, 0]),
        (["embed"], [0, 0, 0, 0]),
        (["L-1.resid_post"], [1, 1, 1, 1]),
        (["final"], [1, 1, 1, 1]),
        ([], [1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba", "bert"])
def test_no_block_runs_after_the_last_layer_that_anyone_reads(
    name: str, read: list[str], expected: list[int]
) -> None:
    assert finished(name, read) == expected


def test_a_read_of_a_sublayer_ends_with_its_block() -> None:
    assert finished("llama", ["L1.attn_out", "L0.mlp_out"]) == [1, 1, 0, 0]


def test_a_block_whose_input_is_read_does_not_run() -> None:
    ran = []
    attention = model().anatomy.layers[2].attn
    assert attention is not None
    with hooked([Tap(attention.module, "out", lambda _: ran.append(2))]):
        seen = run(model(), IDS, read=["L2.resid_pre"])
    assert not ran
    close(seen["L2.resid_pre"], run(model(), IDS, read=["L1.resid_post"])["L1.resid_post"], 0)


def test_an_early_stop_does_not_change_what_is_read() -> None:
    whole = run(model(), IDS, read=["final", "L1.attn_out", "L1.mlp_hidden"])
    short = run(model(), IDS, read=["L1.attn_out", "L1.mlp_hidden"])
    for site in ("L1.attn_out", "L1.mlp_hidden"):
        close(short[site], whole[site], 0)


def test_recording_and_attention_rows_run_all_blocks() -> None:
    assert finished("llama", ["L0.resid_post"], record=True) == [1, 1, 1, 1]
    assert finished("llama", ["L0.resid_post"], queries=torch.tensor([1, 3])) == [1, 1, 1, 1]


def test_final_is_the_last_state_after_the_final_norm() -> None:
    seen = run(model(), IDS, read=["final", "L3.resid_post"])
    close(seen["final"], model().net.model.norm(seen["L3.resid_post"]).detach())  # type: ignore[operator]


def test_norms_are_those_of_what_passed_and_nothing_is_kept() -> None:
    halved = edits.scale("L1.resid_post", 0.5)
    whole = run(model(), IDS, read=STATES, edit=[halved])
    seen = run(model(), IDS, norms=STATES, edit=[halved])
    assert not seen
    assert set(seen.norms) == set(model().anatomy.states())
    for site, norm in seen.norms.items():
        close(norm, whole[site].square().sum(-1).sqrt())


def test_norms_of_halves_are_measured_in_float32_and_a_pass_ends_after_the_last_of_them() -> None:
    seen = run(tiny("llama", torch.bfloat16, seed=10), IDS, norms=["L1.resid_post"])
    assert [norm.dtype for norm in seen.norms.values()] == [torch.float32]
    assert finished("llama", [], norms=["L1.resid_post"]) == [1, 1, 0, 0]


def test_the_stream_between_the_sublayers_is_added_up() -> None:
    seen = run(
        model(), IDS, read=["L1.resid_pre", "L1.resid_mid", "L1.attn_out", "L1.mlp_out", "L1.resid_post"]
    )
    close(seen["L1.resid_mid"], seen["L1.resid_pre"] + seen["L1.attn_out"])
    close(seen["L1.resid_post"], seen["L1.resid_mid"] + seen["L1.mlp_out"])


def test_a_pattern_reads_every_layer_that_has_the_site() -> None:
    jamba = model("jamba")
    seen = run(jamba, IDS, read=["L*.attn_out", "L*.ssm_out"])
    kinds = {str(site).partition(".")[2] for site in seen}
    assert kinds == {"attn_out", "ssm_out"}
    assert len(seen) == jamba.anatomy.n_layers


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mamba", "bert"])
def test_no_hook_is_left_also_after_an_error(name: str) -> None:
    def broken(value: Tensor, stream: Tensor) -> Tensor:
        raise ArithmeticError(f"{value.shape} {stream.shape}")

    run(model(name), IDS, read=["L1.resid_post"], record=True)
    run(model(name), IDS, read=["L1.resid_pre"])
    with pytest.raises(ArithmeticError):
        run(
            model(name),
            IDS,
            read=STATES,
            edit=[edits.Edit(edits.Site.parse("L1.resid_post"), broken, "broken")],
        )
    with pytest.raises(BadInput):
        run(
            model(name), IDS, read=STATES, edit=[edits.zero("L1.resid_post", torch.ones(3, dtype=torch.bool))]
        )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model(name).net.modules())


def test_the_attention_kernel_is_restored_also_after_an_error() -> None:
    net = model().net
    before = net.config._attn_implementation
    edit = edits.zero("L1.resid_post", torch.ones(3, dtype=torch.bool))
    with pytest.raises(BadInput):
        run(model(), IDS, read=STATES, queries=torch.tensor([1]), edit=[edit])
    assert net.config._attn_implementation == before
    fresh = run(tiny("llama", torch.float64, seed=10), IDS, read=STATES).states()
    close(run(model(), IDS, read=STATES).states(), fresh, 0)


def test_an_edit_leaves_no_trace_in_the_next_pass() -> None:
    before = run(model(), IDS, read=STATES).states()
    run(model(), IDS, read=STATES, edit=[edits.skip(0), edits.scale("L2.mlp_out", 9.0)])
    close(run(model(), IDS, read=STATES).states(), before, 0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "gpt_neox", "bert", "mamba", "jamba"])
def test_texts_of_unequal_length_give_the_numbers_of_each_alone(name: str) -> None:
    texts = ["the cat sat", "a much longer sentence than that", "mid length one"]
    # Gemma 2 in float64: transformers takes the softmax of rows that see nothing in float32, where their mask overflows
    read_by = tiny(name, torch.float32, seed=10) if name == "gemma2" else model(name)
    last = f"L{read_by.anatomy.n_layers - 1}.resid_post"
    together = run(read_by, texts, read=[last])
    for row, text in enumerate(texts):
        alone = run(read_by, text, read=[last])[last]
        # the mask takes another kernel, some of which round to float32 inside
        close(together[last][row, : alone.shape[1]], alone[0], 1e-5)
    assert together.batch.mask.sum(-1).tolist() == [len(t) for t in texts]


def test_a_pass_is_a_mapping_from_sites_to_tensors() -> None:
    seen = run(model(), IDS, read=["L0.attn_out", "L2.H1.head_out"])
    assert isinstance(seen, Seen)
    assert sorted(map(str, seen)) == ["L0.attn_out", "L2.H1.head_out"]
    assert seen["L2.H1.head_out"].shape == (2, 9, 8)
    with pytest.raises(BadInput, match=r"L1\.attn_out was not read; this pass read L0\.attn_out"):
        seen["L1.attn_out"]


def test_a_gradient_flows_only_where_it_is_asked_for() -> None:
    assert not run(model(), IDS, read=["L1.resid_post"])["L1.resid_post"].requires_grad
    assert run(model(), IDS, read=["L1.resid_post"], gradient=True)["L1.resid_post"].requires_grad


@pytest.mark.parametrize(
    ("batch", "words"),
    [("", "no tokens"), (["ok", ""], "no tokens"), ([], "no tokens")],
)
def test_text_without_tokens_is_a_clear_error(batch: str | list[str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run(model(), batch, read=["L0.resid_post"])


def test_text_for_a_model_that_reads_images_is_a_clear_error() -> None:
    with pytest.raises(BadInput, match="no tokenizer"):
        run(tiny("vit"), "some text", read=["L0.resid_post"])


def test_attention_rows_of_a_layer_without_attention_are_refused() -> None:
    seen = run(model("jamba"), IDS, read=STATES, queries=torch.tensor([1, 4]))
    kinds = model("jamba").anatomy.kind_of_layer
    with pytest.raises(Refused, match="ssm"):
        seen.pattern(kinds.index("ssm"))
    assert seen.pattern(kinds.index("attention")).shape[-2:] == (2, 9)


def test_a_batch_keeps_documents_and_masks_rows_of_unequal_length() -> None:
    batch = Batch.of_ids([[5, 6, 7], [8, 9]], ["a", "b"])
    assert batch.mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.documents == ("a", "b")
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert set(Batch.of_ids(IDS).inputs) == {"input_ids"}
    with pytest.raises(BadInput, match="at least one token"):
        Batch.of_ids([[5], []])


@pytest.mark.parametrize(
    ("family", "ids", "said"),
    [
        ("llama", [[5, 9999]], "token ids from 5 to 9999; tiny-llama has ids 0 to 95"),
        ("llama", [[5, -1]], "token ids from -1 to 5"),
        ("llama", [[5.0, 6.0]], "whole numbers"),
        ("llama", [5, 6], "whole numbers"),
        ("gpt2", [[5] * 300], "300 tokens are more than the 128 positions that tiny-gpt2 has learnt"),
    ],
)
def test_ids_that_a_model_cannot_read_are_refused_before_it_runs(family: str, ids: list[object], said: str):
    with pytest.raises(BadInput, match=said):
        run(tiny(family), torch.tensor(ids), read=["L1.resid_post"])
