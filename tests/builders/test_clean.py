"""Texts are compared with width, case and white space folded."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zhiling.builders.clean import fold, fold_all, fold_key


@pytest.mark.parametrize("other", ["好  用ABC!", "好用ａｂｃ！", "好\u3000用Abc！\n", " 好用aBC!"])
def test_width_case_and_space_do_not_tell_texts_apart(other: str) -> None:
    assert fold(other) == fold("好用abc!")


@given(st.text() | st.text(alphabet="각ㄱㅏ\u1100\u1161\u11a8e\u0301ΣσςİﬁＡ　…℃①ｶﾞ\u0300\uffff"))
@example("ㄱㅏ")
def test_the_fast_way_is_the_plain_way(text: str) -> None:
    assert fold(text) == "".join(unicodedata.normalize("NFKC", text).lower().split())


ROWS = st.lists(st.tuples(st.text(), st.text(alphabet="aＢ，…Σe\u0301\uffff\x1f\x1e\n 好")))


@given(ROWS)
def test_whole_columns_fold_as_their_texts_do(rows: list[tuple[str, str]]) -> None:
    rows = [(a.encode("utf-8", "replace").decode(), b) for a, b in rows]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], []]
    assert fold_all(columns) == [f"{fold(a)}\x1f{fold(b)}".encode() for a, b in rows]
    assert fold_all(columns[:1]) == [fold(a).encode() for a, _ in rows]


@given(st.text())
def test_folding_twice_changes_nothing_more_than_once_for_the_key(text: str) -> None:
    plain = text.encode("utf-8", "replace").decode()
    assert fold_key([plain]) == fold_key([plain + " "])


def test_fields_are_not_run_together() -> None:
    assert fold_key(["ab", "c"]) != fold_key(["a", "bc"])
