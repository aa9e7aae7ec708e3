"""Groups hang on content alone; a previous release's rows keep their side, and what would tie two sides is marked."""

from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from zhiling.builders.groups import find_groups
from zhiling.builders.near_duplicates import NearSettings, sketch

NEAR = NearSettings()
A = "一二三四五六七八九十甲乙丙丁戊己庚辛壬癸"
B = A + "子丑"       # near A
C = A + "子丑寅卯"   # near B, and A
D = "完全不同的另一条评论，说的是物流太慢，包装也破了"


def groups(rows: list[dict[str, Any]], old: dict[str, str] | None = None) -> dict[str, tuple[str, bool]]:
    """The group of each key that has one, and whether it ties two sides."""
    keys = [{"ties": [], "language": "zh", "id": r["key"], **r} for r in rows]
    with duckdb.connect() as db:
        table = pa.Table.from_pylist(keys).append_column("bands", sketch([r["text"] for r in rows], "zh", NEAR))
        place = table.column_names.index("ties")
        db.register("sketches", table)
        db.register("keys", table.set_column(place, "ties", table["ties"].cast(pa.list_(pa.string()))))
        db.execute("CREATE TABLE old (id VARCHAR, side VARCHAR)")
        db.execute("CREATE TABLE told (key VARCHAR, side VARCHAR)")
        if old:
            db.executemany("INSERT INTO old VALUES (?, ?)", list(old.items()))
        found = find_groups(db, NEAR, Path("before") if old is not None else None)
        return {r["key"]: (r["group_id"], r["tied"]) for r in found.to_pylist()}


def test_the_id_is_the_smallest_key_whatever_the_order() -> None:
    rows = [{"key": "k3", "text": A}, {"key": "k1", "text": B}, {"key": "k2", "text": C}, {"key": "k0", "text": D}]
    for order in permutations(rows):
        assert groups(list(order)) == dict.fromkeys(("k1", "k2", "k3"), ("k1", False))


def test_rows_of_one_user_and_their_near_duplicates_are_one_group() -> None:
    rows = [
        {"key": "k1", "text": A, "ties": ["u1"]}, {"key": "k2", "text": D, "ties": ["u1"]}, {"key": "k3", "text": B},
    ]
    assert groups(rows) == dict.fromkeys(("k1", "k2", "k3"), ("u1", False))


def test_a_new_text_joins_the_side_of_the_old_one_that_it_resembles() -> None:
    rows = [{"key": "k2", "text": A}, {"key": "k1", "text": B}]
    assert groups(rows, {"k2": "test"}) == {"k1": ("k1", False), "k2": ("k1", False)}


def test_a_new_text_that_would_tie_two_sides_together_is_marked_and_the_old_ones_stay_apart() -> None:
    letters = "".join(chr(0x4E00 + i) for i in range(68))
    here, bridge, far = letters[:60], letters[4:64], letters[8:]  # only the bridge is near both
    rows = [{"key": "old1", "text": here}, {"key": "old2", "text": far}, {"key": "new", "text": bridge}]
    assert {r[0] for r in groups(rows).values()} == {"new"}  # without a previous release they are one group
    found = groups(rows, {"old1": "train", "old2": "test"})
    assert found["new"] == ("new", True)
    assert found.get("old1", ("old1", False)) != found.get("old2", ("old2", False))
    assert not any(tied for key, (_, tied) in found.items() if key != "new")


def test_a_new_row_of_a_user_whose_old_rows_stand_on_two_sides_is_marked() -> None:
    rows = [{"key": key, "text": text, "ties": ["u1"]} for key, text in (("k1", A), ("k2", D), ("k3", "新来的"))]
    found = groups(rows, {"k1": "train", "k2": "test"})
    assert found["k3"] == ("k3", True)
    assert [found.get(key, (key, False))[1] for key in ("k1", "k2")] == [False, False]
