"""The text that shares the rarest pieces with a query comes first, in Chinese and in English, and ties by place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.bm25 import make_index, ranked, score

SHOP = ["退货在七天之内办理", "发票在订单页面申请", "运费由买家承担", "会员每月送优惠券"]


def first(texts: list[str], query: str, language: str) -> str:
    (scores,) = score(make_index(texts, language), [query])
    return texts[next(ranked(scores))]


def test_pairs_of_characters_find_chinese_texts() -> None:
    assert first(SHOP, "怎么申请发票？", "zh") == SHOP[1]
    assert first(SHOP, "我要退貨，七天之內可以嗎，怎么退货", "zh") == SHOP[0]


def test_words_find_english_texts_in_any_case() -> None:
    texts = ["Returns are free for 30 days", "Invoices are sent by mail", "Shipping takes a week"]
    assert first(texts, "HOW LONG DOES SHIPPING TAKE", "en") == texts[2]


def test_a_query_without_anything_known_scores_nothing() -> None:
    index = make_index(SHOP, "zh")
    assert [scores.tolist() for scores in score(index, ["？", "xyz", ""])] == [[0.0] * 4] * 3
    assert [s.tolist() for s in score(make_index(["！", ""], "zh"), ["发票"])] == [[0.0, 0.0]]
    assert [s.tolist() for s in score(make_index([], "zh"), ["发票"])] == [[]]


def test_scores_do_not_hang_on_the_order_of_texts() -> None:
    (there,), (back,) = score(make_index(SHOP, "zh"), ["申请退货"]), score(make_index(SHOP[::-1], "zh"), ["申请退货"])
    assert there.tolist() == back[::-1].tolist()


@given(st.lists(st.integers(0, 5), max_size=200))
def test_ranked_is_a_stable_sort(values: list[int]) -> None:
    assert list(ranked(np.array(values, np.float32))) == sorted(range(len(values)), key=lambda i: (-values[i], i))
