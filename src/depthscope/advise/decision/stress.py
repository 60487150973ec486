"""What step 6 says: where written answers repeat, break off or lose their form more often than those of the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from depthscope.results.decision import Estimate, Outputs, Said, Variant

FAULTS = ("repeated", "truncated", "malformed")


def stressed(variants: Sequence[Variant], base: Variant) -> tuple[Said, ...]:
    """A sentence for each fault whose interval lies above that of the base; one that says so where there is none.

    Two 95 % intervals apart are a stricter rule than one 95 % interval of the difference.
    """
    found = tuple(_more(variants, {one.task: one for one in base.outputs}, base.name))
    compared = any(one.outputs for one in variants if one.name != base.name)
    return found or ((Said.of("stress.calm"),) if compared else ())


def _more(variants: Sequence[Variant], before: dict[str, Outputs], base: str) -> Iterator[Said]:
    for variant in variants:
        if variant.name == base:
            continue
        for now in variant.outputs:
            for fault in FAULTS:
                was: Estimate = getattr(before[now.task], fault)
                is_: Estimate = getattr(now, fault)
                if is_.low is not None and was.high is not None and is_.low > was.high:
                    slots = {"variant": variant.name, "task": now.task, "share": is_, "base": was}
                    yield Said.of(f"stress.more_{_WORD[fault]}", **slots)


_WORD = {"repeated": "repeats", "truncated": "truncated", "malformed": "malformed"}
