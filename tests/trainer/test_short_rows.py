"""Short rows side by side attend as each would alone, whatever their lengths and whichever places ask."""

from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.trainer.kernels import turned
from zhiling.trainer.short_rows import groups, short_attention, short_from

HEADS, WIDTH = 2, 4


def one_by_one(q: Any, kv: Any, turns: Any, starts: list[int], at: Any, causal: bool, window: int | None) -> Any:
    """Attention as it is written down: every query by itself."""
    query, key, found = turned(q, turns[at]), turned(kv[:, 0], turns), torch.zeros(len(q), HEADS, WIDTH)
    for n, place in enumerate(at.tolist()):
        row, end = next((a, b) for a, b in pairwise(starts) if a <= place < b)
        low = row if window is None else max(row, place - window)
        high = place + 1 if causal else end if window is None else min(end, place + window + 1)
        shares = (torch.einsum("hk,nhk->hn", query[n], key[low:high]) * WIDTH**-0.5).softmax(-1)
        found[n] = torch.einsum("hn,nhk->hk", shares, kv[low:high, 1])
    return found.flatten(1)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=8), filling=st.integers(0, 5), causal=st.booleans(),
    window=st.sampled_from([None, 3, 64]), asked=st.none() | st.lists(st.floats(0, 0.999), min_size=1, max_size=9),
)
def test_rows_attend_as_each_alone(
    lengths: list[int], filling: int, causal: bool, window: int | None, asked: list[float] | None
) -> None:
    starts = [0, *accumulate(lengths)]
    total = starts[-1] + filling
    at = torch.tensor(sorted(int(share * starts[-1]) for share in asked)) if asked else None
    places = torch.arange(starts[-1]) if at is None else at
    torch.manual_seed(total)
    count = total if at is None else len(at)
    q = torch.randn(count, HEADS, WIDTH, requires_grad=True)
    kv = torch.randn(total, 2, HEADS, WIDTH, requires_grad=True)
    turns = torch.polar(torch.ones(total, WIDTH // 2), torch.randn(total, WIDTH // 2))
    own = turns if at is None else turns[at]
    rows = groups(starts, total, HEADS, causal, window, at)
    made = short_attention(q, kv, (own, turns), rows)[: len(places)]
    expected = one_by_one(q[: len(places)], kv, turns, starts, places, causal, window)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(made)
    for one, other in zip(torch.autograd.grad(made, (q, kv), grad), torch.autograd.grad(expected, (q, kv), grad),
                          strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("lengths", "first"), [([96, 1], 0), ([200, 97, 96, 3], 2), ([5, 300, 5], 2), ([97], 1)])
def test_rows_are_short_from_behind_the_last_long_one(lengths: list[int], first: int) -> None:
    assert short_from([0, *accumulate(lengths)]) == first
