"""Rows of like length go together, within a budget."""

from hypothesis import given
from hypothesis import strategies as st

from zhiling.eval_tasks.batches import batches


@given(st.lists(st.text(max_size=30)), st.integers(1, 100), st.integers(0, 20))
def test_every_row_is_in_one_batch_and_no_batch_of_several_passes_the_budget(
    rows: list[str], most: int, more: int
) -> None:
    found = list(batches(rows, len, most, more))
    assert [row for batch in found for row in batch] == sorted(rows, key=len, reverse=True)
    for batch in found:
        assert len(batch) == 1 or len(batch) * (len(batch[0]) + more) <= most
