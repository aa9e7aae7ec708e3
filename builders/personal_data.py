"""Personal data in a text: where it stands, and the text with it masked.

In: a text. Out: findings (start, end, kind). Numbers count only with their check: Chinese identity numbers by
checksum and date, bank cards by Luhn, addresses by parsing them. Names are looked for when asked, in dialogue
only: speakers, self-introductions and forms of address that begin with a known surname. What none of these
describes is not found: it is a filter, not a promise.
"""

import ipaddress
import re
from bisect import bisect
from collections.abc import Callable, Iterator
from datetime import date
from typing import Literal, NamedTuple

from pydantic import Field

from zhiling.settings import Settings

Kind = Literal["id_number", "bank_card", "mobile", "email", "secret_url", "ip", "name"]
NUMBERED: tuple[Kind, ...] = ("id_number", "bank_card", "mobile", "email", "secret_url", "ip")
MASKS: dict[Kind, str] = {
    "id_number": "[ID_NUMBER]", "bank_card": "[BANK_CARD]", "mobile": "[MOBILE]", "email": "[EMAIL]",
    "secret_url": "[URL]", "ip": "[IP]", "name": "[NAME]",
}
NARROW = {ord("０") + i: str(i) for i in range(10)} | str.maketrans("＠．－Ｘｘ", "@.-Xx")
WORTH_A_LOOK = re.compile(r"\d[\d -]{5}|@|[:：]//|\d\.\d+\.\d|[0-9a-fA-F]:")
PERHAPS = (  # at least what WORTH_A_LOOK finds in a narrowed text, for Arrow's engine (RE2) over whole columns
    r"\p{Nd}[\p{Nd} \-－]{5}|[@＠]|[:：]//|\p{Nd}[.．]\p{Nd}+[.．]\p{Nd}|[0-9a-fA-F０-９][:：]"
)
SURNAMES = (
    "赵钱孙李周吴郑王冯陈卫蒋沈韩杨朱秦许何吕张孔曹严华金魏陶姜谢邹喻苏潘葛范彭郎鲁韦马苗方俞任袁柳鲍史唐费薛雷贺倪汤"
    "罗毕郝安常傅齐康伍余顾孟黄萧尹姚邵汪毛米戴宋庞熊纪舒项祝董梁杜阮蓝季贾路江童颜郭梅林钟徐邱骆高夏蔡田樊胡凌霍万卢莫"
    "丁邓石崔龚程陆曾叶白蒲赖乔翟谭龙段侯武刘景詹司黎温柴瞿阎向古易廖耿欧曲"
)
NAME = rf"[{SURNAMES}][\u4e00-\u9fff]{{1,2}}"
SPEAKER = re.compile(rf"(?m)^[^\S\n]*({NAME})(?=\s*[:：])")
INTRODUCED = re.compile(rf"(?:我叫|我是|名叫|姓名[:：]?\s*|叫做)({NAME})(?![\u4e00-\u9fff])")
ADDRESSED = re.compile(
    rf"([{SURNAMES}][\u4e00-\u9fff]{{0,2}})(?=先生|女士|小姐|太太)|(?:Mr|Mrs|Ms|Dr)\.? ([A-Z][a-z]+(?: [A-Z][a-z]+)?)"
)
ENGLISH = re.compile(r"(?:[Mm]y name is|I am called) ([A-Z][a-z]+(?: [A-Z][a-z]+)?)")


class PersonalSettings(Settings):
    """Which personal data is looked for, and what is done about it."""

    action: Literal["report", "mask", "drop"] = "report"
    kinds: list[Kind] = Field(list(NUMBERED), min_length=1)
    names: bool = Field(False, description="look for people's names in dialogue too")


class Found(NamedTuple):
    """Personal data at text[start:end]."""

    start: int
    end: int
    kind: Kind


def is_id_number(text: str) -> bool:
    """Whether 18 characters are a Chinese identity number: a real date of birth and the right check character."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    if not 1850 <= born.year < 2100:
        return False
    total = sum(w * int(c) for w, c in zip(weights, text[:17], strict=True))
    return "10X98765432"[total % 11] == text[17].upper()


def is_card_number(text: str) -> bool:
    """Whether a number is 16 to 19 digits that begin like a bank card's and pass Luhn's check."""
    digits = [int(c) for c in text if c.isdigit()]
    if not 16 <= len(digits) <= 19 or digits[0] not in (3, 4, 5, 6, 9) or len(set(digits)) < 2:
        return False
    doubled = [sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _is_address(text: str) -> bool:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return False
    return parsed.version == 4 or text.count(":") > 2


PATTERNS: dict[Kind, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "secret_url": (
        re.compile(
            r"https?[:：]//(?:[^\s/@]{1,100}[:：][^\s/@]{1,100}@[^\s，。）)]+|[^\s，。）)]{0,500}[?&#;](?:access_?token|token|api_?key|key|secret|"
            r"sig|signature|password|passwd|pwd|auth|session(?:id)?|sid)=[^\s，。）)]+)", re.IGNORECASE
        ),
        lambda _: True,
    ),
    "email": (
        re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
        lambda _: True,
    ),
    "id_number": (re.compile(r"(?<!\d)[1-9]\d{16}[\dXx](?!\d)"), is_id_number),
    "bank_card": (re.compile(r"(?<!\d)\d(?:[ -]?\d){15,18}(?!\d)"), is_card_number),
    "mobile": (re.compile(r"(?<!\d)(?<!\d\.)(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"), lambda _: True),
    "ip": (
        re.compile(
            r"(?<![A-Za-z0-9_.])\d{1,3}(?:\.\d{1,3}){3}(?![A-Za-z0-9_]|\.\d)"
            r"|(?<![A-Za-z0-9_.:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![A-Za-z0-9_:]|\.\d)"
        ),
        _is_address,
    ),
}


def find(text: str, settings: PersonalSettings) -> list[Found]:
    """The personal data in `text`, in order, none overlapping another."""
    found: list[Found] = []
    narrow = text.translate(NARROW)
    if WORTH_A_LOOK.search(narrow):
        for kind, (pattern, check) in PATTERNS.items():
            if kind in settings.kinds:
                found += [Found(*m.span(), kind) for m in pattern.finditer(narrow) if check(m.group())]
    if settings.names or "name" in settings.kinds:
        found += _names(text)
    kept: list[Found] = []
    for each in found:  # in the order of the patterns: a URL goes before the number in it
        at = bisect(kept, each)
        if (at == 0 or kept[at - 1].end <= each.start) and (at == len(kept) or each.end <= kept[at].start):
            kept.insert(at, each)
    return kept


def _names(text: str) -> Iterator[Found]:
    for pattern in (SPEAKER, INTRODUCED, ADDRESSED, ENGLISH):
        for match in pattern.finditer(text):
            group = next(i for i in range(1, pattern.groups + 1) if match.group(i))
            yield Found(*match.span(group), "name")


def mask(text: str, found: list[Found]) -> str:
    """`text` with what was found replaced by what it was."""
    ends = [0, *(each.end for each in found)]
    parts = [text[end : each.start] + MASKS[each.kind] for end, each in zip(ends, found, strict=False)]
    return "".join([*parts, text[ends[-1] :]])


def moved(at: int, found: list[Found], end: bool = False) -> int:
    """Where offset `at` of a text stands once it is masked; inside of a mask, at its start or its end."""
    shift = 0
    for start, stop, kind in found:
        if stop <= at:
            shift += len(MASKS[kind]) - (stop - start)
        elif start < at:
            return start + shift + (len(MASKS[kind]) if end else 0)
    return at + shift
