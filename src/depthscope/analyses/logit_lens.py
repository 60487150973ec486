"""Logit lens: what each layer would predict.

Question: If the model stopped after each layer and decoded its stream with its own head, what would it
predict, and how far is that from its final prediction?

Method: Every state (the embedding output, then each block's output, before the final norm) goes through the
model's own final norm and unembedding at hash-sampled positions. kl_to_final = KL(final || state),
reverse_kl_to_final = KL(state || final), cross_entropy against the true next token, entropy, all in nats;
top1_agreement and top5_overlap with the final prediction; median_rank of the final top-1 token. Position 0
is left out. Nothing of size state x position x vocabulary is ever held.

How to read: KL falls towards 0 as the prediction forms; the state where it starts to fall fast is where
layers begin to speak the language of the output. Agreement and rank tell the same in discrete steps. Hover
or focus a cell of a token strip to see the five most likely tokens.

What misleads: The early stream need not be written in the head's language, so a poor early lens does not
show that nothing is known there. In models with tied embeddings early states decode to the current token.
The two directions of KL differ several-fold; compare like with like.

Source: nostalgebraist 2020, interpreting GPT: the logit lens; Belrose et al. 2023 (arXiv 2303.08112).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.measured import mean, median, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import Decoded, View
from depthscope.errors import Refused
from depthscope.results.measurement import Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

WANTED = Decode(top_k=5, entropy=True, kl=True, reverse_kl=True, target=True, final_rank=True)
UNITS = {
    "kl_to_final": "nats",
    "reverse_kl_to_final": "nats",
    "cross_entropy": "nats",
    "entropy": "nats",
    "top1_agreement": "probability",
    "top5_overlap": "probability",
}


@dataclass(frozen=True)
class LogitLens:
    """The states decoded with the model's own head.

    Args:
        positions: hash-sampled positions that are decoded at all states.
        strips: windows shown as token strips. strip_tokens: positions of each strip.
    """

    positions: int = 2048
    strips: int = 3
    strip_tokens: int = 24

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states, decoded; refused without an unembedding."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so its states cannot be decoded to tokens")
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), WANTED, self.positions)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Per-position values summed by unit, ranks in rows, and the strips of the first windows."""
        del given
        decoded = seen.decoded
        values = {name: PerDocument.of(decoded.units, _items(v)) for name, v in _values(decoded).items()}
        rank = decoded.trace.final_rank
        assert rank is not None
        columns = {"rank": _items(rank).astype(np.int32), "unit": np.asarray(decoded.units, dtype=str)}
        ranks = Rows(seen.sampling_keys(decoded.rows, decoded.positions), columns, seen.needs.positions)  # pyright: ignore[reportArgumentType]
        shown = [r for r, window in enumerate(seen.shard.windows) if window < self.strips]
        strips = {"strips": self._strips(model, batch, seen, shown)} if shown else {}
        return Tally({**values, "ranks": ranks, **strips})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over states."""
        axes, note = (
            states(facts),
            "position 0 left out; state s is the output of block s-1, before the final norm",
        )
        missing = (
            ""
            if facts.causal
            else "the model is no causal language model: there is no next token to compare with"
        )
        found = [
            mean(
                part(total, n, PerDocument), n, axes, u, facts, note, missing if n == "cross_entropy" else ""
            )
            for n, u in UNITS.items()
        ]
        found.append(median(part(total, "ranks", Rows), "rank", "median_rank", axes, "1", facts, note))
        strips = total.get("strips")
        examples = {"strips": _table(strips)} if isinstance(strips, Rows) else {}
        return Findings({m.name: m for m in found}, examples)

    def _strips(self, model: Model, batch: Batch, seen: View, rows: list[int]) -> Rows:
        length = min(self.strip_tokens, batch.length - 2)
        pairs = torch.tensor([(r, p) for r in rows for p in range(1, 1 + length)])
        decoded = seen.decode(pairs, Decode(top_k=5))
        ids, logits = decoded.trace.top_ids, decoded.trace.top_logits
        assert ids is not None
        assert logits is not None
        probability = torch.exp(logits - decoded.trace.logsumexp[..., None]).transpose(0, 1)
        windows = torch.tensor(seen.shard.windows)[pairs[:, 0]]
        name = _namer(model)
        columns = {
            "strip": windows.numpy(),
            "position": pairs[:, 1].numpy(),
            "document": np.asarray(decoded.units, dtype=str),
            "token": name(batch.ids.cpu()[pairs[:, 0], pairs[:, 1]]),
            "target": name(decoded.targets),
            "prediction": name(ids.transpose(0, 1)),
            "probability": probability.float().cpu().numpy(),
        }
        return Rows((windows * 10**6 + pairs[:, 1]).numpy().astype(np.uint64), columns, 10**6)


def _values(decoded: Decoded) -> dict[str, Tensor]:
    t = decoded.trace
    assert t.kl is not None
    assert t.reverse_kl is not None
    assert t.entropy is not None
    assert t.cross_entropy is not None
    assert t.top_ids is not None
    nothing = torch.full_like(t.cross_entropy, torch.nan)
    shared = (t.top_ids[..., :, None] == t.top_ids[-1][..., None, :]).any(-1).double().mean(-1)
    return {
        "kl_to_final": t.kl,
        "reverse_kl_to_final": t.reverse_kl,
        "cross_entropy": torch.where(decoded.has_target, t.cross_entropy, nothing),
        "entropy": t.entropy,
        "top1_agreement": (t.top_ids[..., 0] == t.top_ids[-1, :, 0]).double(),
        "top5_overlap": shared,
    }


def _items(values: Tensor) -> np.ndarray:
    """[state, item] -> [item, state] on the host."""
    return values.T.double().cpu().numpy()


def _namer(model: Model):  # noqa: ANN202  (a local function, typed below)
    def name(ids: Tensor) -> np.ndarray:
        flat = ids.cpu().flatten().tolist()
        known = {i: model.tokenizer.decode([i]) for i in set(flat)}
        return np.asarray([known[i] for i in flat], dtype=str).reshape(ids.shape)

    return name


def _table(rows: Rows) -> Table:
    """One row a (strip, position, state, k)."""
    c = rows.columns
    n, n_states, k = c["prediction"].shape
    grid = np.indices((n, n_states, k)).reshape(3, -1)
    item, state, place = grid
    one = {name: c[name][item] for name in ("strip", "document", "position", "token", "target")}
    cells = {
        "prediction": c["prediction"].reshape(-1),
        "probability": c["probability"].reshape(-1).astype(np.float64),
    }
    return Table(
        {**one, "state": state, "k": place + 1, **cells},
        "token strips: the five most likely tokens at each state",
    )
