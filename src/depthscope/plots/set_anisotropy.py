"""How far the vectors of a set of texts point one way, by three measures."""

from __future__ import annotations

from depthscope.charts import Spec, described, finish, lines, present
from depthscope.results.result import Result

SUITS = ("dataset_geometry",)
READS = ("cosine_anisotropy", "spectral_anisotropy", "self_cluster", "outlier_share")
TITLE = "One direction or many: anisotropy of a set of texts"
NAMES = {
    "cosine_anisotropy": "mean cosine", "spectral_anisotropy": "largest eigenvalue", "self_cluster": "self-cluster",
    "outlier_share": "largest dimension",
}  # fmt: skip


def plot(result: Result) -> Spec:
    """Mean cosine, share of the largest eigenvalue, self-cluster and share of the largest dimension, by state."""
    series = {NAMES[name]: found for name, found in present(result, READS).items()}
    note = "mean cosine of raw vectors; largest eigenvalue of the covariance"
    return finish(lines(series, "state", "share or cosine"), TITLE, described(series, "state"), note)
