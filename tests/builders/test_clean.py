"""Texts are compared with width, case and white space folded; the global verdict names one row per group."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.clean import KEY_SCHEMA, fold, fold_key
from zhiling.builders.duplicates import Leak, group


@pytest.mark.parametrize("other", ["好  用ABC!", "好用ａｂｃ！", "好\u3000用Abc！\n", " 好用aBC!"])
def test_width_case_and_space_do_not_tell_texts_apart(other: str) -> None:
    assert fold(other) == fold("好用abc!")


@given(st.text())
def test_folding_twice_changes_nothing_more_than_once_for_the_key(text: str) -> None:
    assert fold_key([text.encode("utf-8", "replace").decode()]) == fold_key([text.encode("utf-8", "replace").decode() + " "])


def test_fields_are_not_run_together() -> None:
    assert fold_key(["ab", "c"]) != fold_key(["a", "bc"])


def verdicts(tmp_path: Path, rows: list[tuple[str, str, str]], order: list[int]) -> tuple[dict[str, str], Leak]:
    """Verdict by source for rows (id, key, label) written in the given order."""
    table = pa.Table.from_pylist(
        [
            {"unit": 0, "row": n, "id": rows[i][0], "key": rows[i][1], "label": rows[i][2], "corpus": "c",
             "source": f"s{i}", "naive": "test" if i % 2 else "train"}
            for n, i in enumerate(order)
        ],
        schema=KEY_SCHEMA,
    )
    keys, out = tmp_path / f"keys{order}.parquet", tmp_path / f"verdicts{order}.parquet"
    pq.write_table(table, keys)
    leak = group([keys], out)
    found = pq.read_table(out).to_pylist()
    return {f"s{order[v['row']]}": v["verdict"] for v in found}, leak


def test_one_row_of_a_group_stays_whatever_the_order(tmp_path: Path) -> None:
    rows = [("b", "k1", "x"), ("a", "k1", "x"), ("c", "k2", "x"), ("d", "k3", "x"), ("e", "k3", "y")]
    expected = {"s0": "duplicate", "s1": "keep", "s2": "keep", "s3": "label_conflict", "s4": "label_conflict"}
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]):
        found, leak = verdicts(tmp_path, rows, order)
        assert found == expected
    # rows 1 and 3 are the naive test side; row 1's text also stands in row 0, row 3's in row 4
    assert leak == Leak(rows=5, unique_texts=3, conflicting_texts=1, naive_test_rows=2, naive_leaked_rows=2)
    assert leak.naive_leaked_share == 1.0
