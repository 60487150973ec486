"""depthscope shows how language models use their depth.

    import depthscope as ds

    model = ds.load("smollm2-135m")
    run = ds.audit(model, ["logit_lens", "layer_skip"], tokens=20_000, out="runs/first")
    run["logit_lens"].data["kl_to_final"]

Names are imported on first use, so `import depthscope` loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depthscope.anatomy.family import Family as Family
    from depthscope.anatomy.site import Site as Site
    from depthscope.engine.audit import audit as audit
    from depthscope.engine.plan import plan as plan
    from depthscope.results.measurement import Measurement as Measurement
    from depthscope.results.result import Findings as Findings
    from depthscope.results.result import Result as Result
    from depthscope.runtime import edits as edits
    from depthscope.runtime.decompose import decompose as decompose
    from depthscope.runtime.generate import generate as generate
    from depthscope.runtime.load import load as load
    from depthscope.runtime.model import Model as Model
    from depthscope.runtime.run import run as run
    from depthscope.runtime.verify import verify as verify
    from depthscope.store.run import Run as Run
    from depthscope.store.run import open_run as open_run

__version__ = "0.1.0"

_HOMES = {
    "Family": "depthscope.anatomy.family",
    "Site": "depthscope.anatomy.site",
    "audit": "depthscope.engine.audit",
    "plan": "depthscope.engine.plan",
    "Measurement": "depthscope.results.measurement",
    "Findings": "depthscope.results.result",
    "Result": "depthscope.results.result",
    "decompose": "depthscope.runtime.decompose",
    "edits": "depthscope.runtime",
    "generate": "depthscope.runtime.generate",
    "load": "depthscope.runtime.load",
    "Model": "depthscope.runtime.model",
    "run": "depthscope.runtime.run",
    "verify": "depthscope.runtime.verify",
    "Run": "depthscope.store.run",
    "open_run": "depthscope.store.run",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]  (lazy names, tested)


def __getattr__(name: str) -> Any:  # noqa: ANN401  (module protocol)
    if name not in _HOMES:
        raise AttributeError(f"depthscope has no {name!r}; it has {', '.join(__all__)}")
    home = _HOMES[name]
    module = importlib.import_module(f"{home}.edits" if name == "edits" else home)
    return module if name == "edits" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
