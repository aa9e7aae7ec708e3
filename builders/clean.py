"""How a recipe wants rows cleaned, and what makes two texts the same.

Texts are compared with width, case and white space folded. The text itself is never changed by that.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

from zhiling.builders.columns import hashed, new_table, translated
from zhiling.builders.near_duplicates import NearSettings
from zhiling.builders.screen import ScreenSettings


class CleanSettings(ScreenSettings):
    """What every row is looked at for, and what becomes of duplicates and contradictions."""

    near_duplicates: NearSettings | None = NearSettings()
    label_conflicts: Literal["quarantine", "majority", "keep"] = "quarantine"
    conflicts_within: Literal["text", "group"] = "text"


class _Folding(dict[int, str]):
    """What each character is compared as, worked out when it is first met."""

    def __missing__(self, point: int) -> str:
        letter = chr(point)
        form = unicodedata.normalize("NFKC", letter).lower()
        # characters that may join with a neighbour, and the one whose lower case hangs on its place
        joins = any("\u1100" <= c <= "\u11ff" or unicodedata.category(c).startswith("M") for c in letter + form)
        self[point] = JOINS if joins or letter == "Σ" else "".join(form.split())
        return self[point]


JOINS = "\uffff"
FIELDS = "\x1f"  # between the fields of a row; white space, so no folded text holds it
FOLDING = _Folding()
NEXT_ROW, NEXT_FIELD = "\ud800", "\ud801"  # no text holds half a surrogate pair
NOTHING = 0xFFFFFFFE
TABLE = cache(new_table)


def fold(text: str) -> str:
    """`text` as compared: compatibility forms folded (full width to half), lower case, no white space."""
    folded = text.translate(FOLDING)  # twice as fast as normalising, and the same where no characters join
    return "".join(unicodedata.normalize("NFKC", text).lower().split()) if JOINS in folded else folded


def fold_all(fields: Sequence[Sequence[str]]) -> list[bytes]:
    """What `fold` gives for columns of texts, each row's put together in UTF-8, from one array of code points."""
    rows = fields[0] if len(fields) == 1 else map(NEXT_FIELD.join, zip(*fields, strict=True))
    text = NEXT_ROW.join(rows).replace("…", "...")  # what is folded to several, and common in Chinese
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    folded = translated(points, TABLE(), _becomes)
    folded = folded[folded != NOTHING]
    texts = folded.tobytes().decode("utf-32-le").encode().split(b"\n") if len(fields[0]) else []
    joining = np.flatnonzero(folded == ord(JOINS))
    for i in np.unique(np.searchsorted(np.flatnonzero(folded == ord("\n")), joining)).tolist() if len(joining) else ():
        texts[i] = FIELDS.join(fold(field[i]) for field in fields).encode()
    return texts


def _becomes(point: int) -> int:
    """What a code point is folded to: one that stands for a row that is to be folded by itself where it is several."""
    if point in (ord(NEXT_ROW), ord(NEXT_FIELD)):
        return ord("\n" if point == ord(NEXT_ROW) else FIELDS)
    form = FOLDING[point]
    return ord(form) if len(form) == 1 else ord(JOINS) if form else NOTHING


def fold_key(fields: Sequence[str]) -> str:
    """A key that two rows share when their folded fields are equal."""
    key: str = hashed([FIELDS.join(map(fold, fields)).encode()])[0].as_py()
    return key
