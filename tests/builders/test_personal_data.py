"""Personal data is found where its check holds, masked without moving what stands around it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.personal_data import MASKS, PersonalSettings, find, is_card_number, is_id_number, mask, moved

ALL = PersonalSettings(names=True)


def kinds(text: str, settings: PersonalSettings = ALL) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in find(text, settings)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("电话13812345678，晚上打", [("mobile", "13812345678")]),
        ("打 +86 138-1234-5678 找我", [("mobile", "+86 138-1234-5678")]),
        ("电话１３８１２３４５６７８", [("mobile", "１３８１２３４５６７８")]),
        ("身份证11010519491231002X。", [("id_number", "11010519491231002X")]),
        ("卡号6222021234567890128", [("bank_card", "6222021234567890128")]),
        ("卡号6222021234567890129", []),
        ("卡号4111 1111 1111 1111到期", [("bank_card", "4111 1111 1111 1111")]),
        ("写信到zhang.san@example.com.cn吧", [("email", "zhang.san@example.com.cn")]),
        ("服务器192.168.1.254挂了", [("ip", "192.168.1.254")]),
        ("IP：10.0.0.1:8080, at 10.0.0.2.", [("ip", "10.0.0.1"), ("ip", "10.0.0.2")]),
        ("地址：fe80::1ff:fe23:4567:890a。", [("ip", "fe80::1ff:fe23:4567:890a")]),
        ("身份证１１０１０５１９４９１２３１００２Ｘ", [("id_number", "１１０１０５１９４９１２３１００２Ｘ")]),
        ("看https：//a.cn/x?token=abc", [("secret_url", "https：//a.cn/x?token=abc")]),
        ("看https://a.cn/x?id=3&token=abc123，谢谢", [("secret_url", "https://a.cn/x?id=3&token=abc123")]),
        ("git clone https://me:pw@git.example.com/r.git", [("secret_url", "https://me:pw@git.example.com/r.git")]),
        ("张小明：你好\n客服：您好", [("name", "张小明")]),
        ("我叫李雷，在吗", [("name", "李雷")]),
        ("王伟先生您好", [("name", "王伟")]),
        ("请找张女士，老先生不在", [("name", "张")]),
        ("My name is Jane Smith.", [("name", "Jane Smith")]),
    ],
)
def test_what_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert kinds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "订单号138123456789012", "价格1299元，2023年10月", "110105194912310021", "版本999.1.2.300", "12:30开会",
        "https://a.cn/x?id=3", "四星，a@b", "11010519491331002X", "1111111111111111", "好用" * 50,
        "系数0.13812345678", "版本1.2.3.4.5", "110105094912310021",
    ],
)
def test_what_is_not(text: str) -> None:
    assert kinds(text) == []


def test_names_are_looked_for_only_when_asked() -> None:
    assert kinds("张小明：你好", PersonalSettings()) == []


def test_checksums() -> None:
    assert is_id_number("11010519491231002X") and is_id_number("11010519491231002x")
    assert not is_id_number("110105194912310021")
    assert is_card_number("4111111111111111") and not is_card_number("4111111111111112")


@given(st.text(alphabet="好13800138000@.a:/ -x", max_size=60))
def test_a_masked_text_holds_no_more_and_the_rest_stays_in_place(text: str) -> None:
    found = find(text, ALL)
    masked = mask(text, found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    for start, end, kind in found:
        assert masked[moved(start, found) : moved(end, found, end=True)] == MASKS[kind]
    free = [i for i in range(len(text)) if not any(f.start <= i < f.end for f in found)]
    assert all(masked[moved(i, found)] == text[i] for i in free)


@pytest.mark.parametrize("piece", ["http://a", "http://a?", "http://a:", "\n", "13812345678 ", "a@", "1-", "ab:"])
def test_a_long_text_takes_time_by_its_length(piece: str) -> None:
    text = piece * (400_000 // len(piece))  # by the square of it this would take minutes
    masked = mask(text, find(text, ALL))
    assert masked.count("[MOBILE]") == text.count("13812345678")
