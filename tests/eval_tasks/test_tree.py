"""A context and its continuations as one row."""

from hypothesis import given
from hypothesis import strategies as st

from zhiling.eval_tasks.tree import plant

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=5)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=6))
def test_each_output_sees_what_it_would_see_alone(context: list[int], continuations: list[list[int]]) -> None:
    tree = plant(context, continuations)
    row, seen = [*tree.context, *tree.tails], tree.sight()
    for tokens, steps in zip(continuations, tree.steps, strict=True):
        assert [token for _, token in steps] == tokens
        for i, (place, _) in enumerate(steps):
            before = [row[j] for j in range(len(row)) if seen[place, j]]
            assert before == [*context, *tokens[:i]]
            assert tree.positions[place] == len(context) + i - 1


def test_equal_beginnings_are_read_once_and_last_tokens_not_at_all() -> None:
    tree = plant([9, 9], [[1, 2, 3], [1, 2, 4], [5]])
    assert tree.tails == (1, 2)
    assert len(tree) == 4
