"""Attention rows at positions that each window names itself."""

from __future__ import annotations

import pytest

from depthscope.engine.needs import Needs
from depthscope.engine.view import queries_of
from depthscope.errors import BadInput
from depthscope.materials.window import Window

OWN = Needs(own_queries=True)


def window(*queries: int) -> Window:
    return Window(0, "d", (1, 2, 3, 4), (), {"queries": list(queries)})


def test_windows_with_fewer_queries_are_filled_up_with_none():
    found = queries_of(OWN, [window(1, 3), window(2)], 4)
    assert found.tolist() == [[1, 3], [2, -1]]


def test_without_own_queries_all_windows_share_a_stride():
    assert queries_of(Needs(every_query=2), [window(1)], 6).tolist() == [1, 3, 5]


def test_queries_that_are_not_there_are_told():
    with pytest.raises(BadInput, match="found 4 in a window of 4 tokens"):
        queries_of(OWN, [window(4)], 4)
    with pytest.raises(BadInput, match="no window names any"):
        queries_of(OWN, [Window(0, "d", (1, 2))], 2)


def test_own_queries_and_a_stride_do_not_share_a_pass():
    with pytest.raises(BadInput, match="materials of their own"):
        _ = OWN | Needs(every_query=4)
    both = OWN | Needs(values=True)
    assert both.own_queries
    assert both.values
    assert both.captures
