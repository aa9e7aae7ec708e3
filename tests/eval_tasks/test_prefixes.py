"""Which prompts share a prefix worth computing once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.eval_tasks.prefixes import GROUP_COST, group_contexts

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def contexts_of(shots: list[list[int]], ends: list[list[int]], length: int) -> list[list[int]]:
    """Every end behind every shot, shots stretched to `length` tokens each."""
    return [shot * length + end for shot in shots for end in ends]


@given(st.lists(TOKENS, min_size=1, max_size=4), st.lists(TOKENS, min_size=1, max_size=6), st.integers(1, 200))
@settings(deadline=None)
def test_groups_hold_every_context_once_and_their_prefix_is_shared(
    shots: list[list[int]], ends: list[list[int]], length: int
) -> None:
    contexts = contexts_of(shots, ends, length)
    groups = group_contexts(contexts)
    assert sorted(m for g in groups for m in g.members) == list(range(len(contexts)))
    for group in groups:
        assert len({tuple(contexts[m][: group.prefix]) for m in group.members}) == 1
        assert all(len(contexts[m]) > group.prefix for m in group.members)


def test_fixed_shots_are_one_group() -> None:
    contexts = [[7] * 500 + [i, 1] for i in range(50)]
    (group,) = group_contexts(contexts)
    assert (group.prefix, len(group.members)) == (500, 50)


def test_shots_that_differ_share_what_they_can() -> None:
    contexts = [[shots] * 400 + [i] for shots in range(3) for i in range(20)]
    assert sorted((g.prefix, len(g.members)) for g in group_contexts(contexts)) == [(400, 20)] * 3


def test_a_short_prefix_is_not_worth_a_pass() -> None:
    contexts = [[1] * (GROUP_COST // 10), [1] * (GROUP_COST // 10) + [2]]
    (group,) = group_contexts(contexts)
    assert group.prefix == 0


def test_many_contexts_do_not_nest_too_deep() -> None:
    contexts = [[1] * n for n in range(1, 3000)]
    assert sum(len(g.members) for g in group_contexts(contexts)) == len(contexts)
