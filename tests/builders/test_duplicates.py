"""What becomes of each row: one row per text stays, contradictions go, groups keep to one side, whatever the order."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders.clean import CleanSettings, fold_key
from zhiling.builders.duplicates import Compared, Leak, judge_rows
from zhiling.builders.engines import Piece, Shard, row_groups, run_shard
from zhiling.builders.fit import read_schema
from zhiling.builders.keys import COMPARED, SKETCH_SCHEMA
from zhiling.builders.near_duplicates import NearSettings, sketch
from zhiling.builders.split import SplitSettings

Row = dict[str, Any]
NEAR = NearSettings()
LONG = "这家店的东西真的非常好，下次还会再来买，推荐给大家"


def judged(
    folder: Path, rows: list[Row], clean: Row | None = None, split: Row | None = None
) -> tuple[list[Row], Leak, Path]:
    """The verdict on each of `rows` (id, text, what else a row brings along), in their order; the leak; the lists."""
    folder.mkdir(parents=True, exist_ok=True)
    base = {"_unit": 0, "_label": "", "corpus": "c", "_naive": False, "_ties": []}
    made = [base | {"_row": n, "_key": fold_key([r["text"]]), "source": f"s{n}"} | r for n, r in enumerate(rows)]
    units = [[r for r in made if r["_unit"] == unit] for unit in range(1 + max(r["_unit"] for r in made))]
    schema = pa.schema([*read_schema({"text": "string"}), *COMPARED])
    for unit, its in enumerate(units):
        run_shard(lambda table: [Piece(table)], Shard(folder / f"{unit}.arrow", pa.Table.from_pylist(its, schema)))
    bands = sketch([r["text"] for r in rows], "zh", NEAR).to_pylist()
    sketches = [r | {"key": r["_key"], "language": "zh", "bands": b} for r, b in zip(made, bands, strict=True)]
    pq.write_table(pa.Table.from_pylist(sketches, SKETCH_SCHEMA), folder / "sketches.parquet")
    files = [folder / f"{n}.arrow" for n in range(len(units))]
    given = Compared(files, [{"text": "string"}] * len(units), [folder / "sketches.parquet"])
    out = folder / "verdicts.parquet"
    settings = CleanSettings.model_validate(clean or {}), SplitSettings.model_validate(split or {})
    leak = judge_rows(given, *settings, 1, None, out)
    told = {(v["unit"], v["row"]): v for v in pq.read_table(out).to_pylist()}
    kept = ({"verdict": "keep", "group_id": r["_key"], "side": r.get("_own")} for r in made)
    found = [told.get((r["_unit"], r["_row"]), keep) for r, keep in zip(made, kept, strict=True)]
    return found, leak, folder / "review"


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verdicts(found: list[Row]) -> list[str]:
    return [v["verdict"] for v in found]


def test_one_row_of_a_text_stays_whatever_the_order(tmp_path: Path) -> None:
    rows = [
        {"id": "b", "text": "好用", "_label": "x", "_naive": False},
        {"id": "a", "text": "好 用", "_label": "x", "_naive": True},
        {"id": "c", "text": "一般", "_label": "x", "_naive": False},
        {"id": "d", "text": "凑合", "_label": "x", "_naive": True},
        {"id": "e", "text": "凑合", "_label": "y", "_naive": False},
    ]
    expected = {"b": "duplicate", "a": "keep", "c": "keep", "d": "label_conflict", "e": "label_conflict"}
    for n, order in enumerate(list(permutations(rows))[::17]):
        found, leak, _ = judged(tmp_path / str(n), list(order))
        assert {r["id"]: v for r, v in zip(order, verdicts(found), strict=True)} == expected
        assert leak == Leak(
            rows=5, unique_texts=3, conflicting_texts=1, near_groups=0, near_texts=0,
            naive_test_rows=2, naive_leaked_rows=2, naive_near_leaked_rows=0,
        )
    assert leak.naive_leaked_share == 1.0


def test_near_duplicates_stay_and_share_a_group_named_by_its_smallest_key(tmp_path: Path) -> None:
    other = "完全不同的另一条评论，说的是物流太慢"
    rows = [{"id": "a", "text": LONG}, {"id": "b", "text": LONG + "！哦", "_naive": True}, {"id": "c", "text": other}]
    found, leak, review = judged(tmp_path, rows)
    assert verdicts(found) == ["keep"] * 3
    assert found[0]["group_id"] == found[1]["group_id"] == min(fold_key([r["text"]]) for r in rows[:2])
    assert found[2]["group_id"] == fold_key([rows[2]["text"]])
    assert (leak.near_groups, leak.near_texts, leak.naive_near_leaked_rows, leak.naive_leaked_rows) == (1, 2, 1, 0)
    [pair] = lines(review / "near_duplicates.jsonl")
    assert pair["similarity"] >= NEAR.threshold
    assert {pair["text"], pair["near_text"]} == {LONG, LONG + "！哦"}


def test_a_recipe_may_keep_one_row_of_a_near_duplicate_group(tmp_path: Path) -> None:
    rows = [{"id": "b", "text": LONG}, {"id": "a", "text": LONG + "！哦"}]
    found, _, _ = judged(tmp_path, rows, {"near_duplicates": {"keep": "one"}})
    assert verdicts(found) == ["near_duplicate", "keep"]
    assert found[0]["detail"] == "near duplicate of s1"


VOTES = [("a", "x"), ("b", "x"), ("c", "y")]


@pytest.mark.parametrize(
    ("policy", "labels", "expected"),
    [
        ("quarantine", VOTES, ["label_conflict"] * 3),
        ("majority", VOTES, ["keep", "duplicate", "label_outvoted"]),
        ("majority", [*VOTES, ("d", "y")], ["label_conflict"] * 4),
        ("keep", VOTES, ["keep", "duplicate", "keep"]),
    ],
)
def test_contradicting_labels_follow_the_recipe(
    tmp_path: Path, policy: str, labels: list[tuple[str, str]], expected: list[str]
) -> None:
    rows = [{"id": i, "text": "凑合", "_label": label} for i, label in labels]
    found, _, review = judged(tmp_path, rows, {"label_conflicts": policy})
    assert verdicts(found) == expected
    [listed] = lines(review / "label_conflicts.jsonl")
    assert listed["text"] == "凑合"
    assert [r["label"] for r in listed["rows"]] == [label for _, label in labels]


def test_labels_may_have_to_agree_within_a_whole_group(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": LONG, "_label": "x"}, {"id": "b", "text": LONG + "！哦", "_label": "y"}]
    assert verdicts(judged(tmp_path / "text", rows)[0]) == ["keep", "keep"]
    assert verdicts(judged(tmp_path / "group", rows, {"conflicts_within": "group"})[0]) == ["label_conflict"] * 2
    said = "the same text or a near duplicate stands elsewhere with another label"
    assert judged(tmp_path / "said", rows, {"conflicts_within": "group"})[0][0]["detail"] == said


def test_a_text_that_stands_in_the_sources_test_split_is_taken_out_of_its_train_split(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": LONG, "_own": "train"}, {"id": "b", "text": LONG + "！哦", "_own": "test"},
        {"id": "c", "text": "物流太慢，等了一个星期才到，差评", "_own": "train"},
    ]
    found, _, _ = judged(tmp_path, rows)
    assert verdicts(found) == ["stands_in_another_split", "keep", "keep"]
    assert found[0]["detail"] == "its text or a near duplicate stands in the test split"
    assert [v["side"] for v in found] == ["test", "test", "train"]


def test_rows_of_one_user_share_a_group_named_by_the_user(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "好用", "_ties": ["user1"]}, {"id": "b", "text": "物流慢", "_ties": ["user1"]},
        {"id": "c", "text": "好"}, {"id": "d", "text": "凑合", "_ties": ["user2"]},
    ]
    found, _, _ = judged(tmp_path, rows)
    assert [v["group_id"] for v in found] == ["user1", "user1", fold_key(["好"]), "user2"]


def test_a_train_row_of_a_user_of_the_test_split_says_so(tmp_path: Path) -> None:
    said = (("a", "好", "train"), ("b", "坏", "test"))
    rows = [{"id": name, "text": text, "_ties": ["user1"], "_own": own} for name, text, own in said]
    detail = "its text or a near duplicate, or a row that it is together with, stands in the test split"
    assert judged(tmp_path, rows)[0][0]["detail"] == detail


def test_stratified_sides_have_the_shares_of_each_label(tmp_path: Path) -> None:
    rows = [{"id": f"{i:03}", "text": f"第{i}条", "_label": "xy"[i % 5 == 0]} for i in range(200)]
    found, _, _ = judged(tmp_path, rows, split={"stratify": True, "train": 0.7, "validation": 0.1, "test": 0.2})
    for label, size in (("x", 160), ("y", 40)):
        sides = [v["side"] for r, v in zip(rows, found, strict=True) if r["_label"] == label]
        assert {s: sides.count(s) / size for s in set(sides)} == {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_the_verdicts_of_a_unit_stand_in_one_part_and_rows_that_simply_stay_have_none(tmp_path: Path) -> None:
    texts = ["甲", "乙", "丙", "丁", "戊", "己", "甲", "丁", "庚"]
    judged(tmp_path, [{"id": f"{n:02d}", "text": t, "_unit": n // 3, "_row": n % 3} for n, t in enumerate(texts)])
    parts = [part.read().to_pylist() for part in row_groups([tmp_path / "verdicts.parquet"])]
    assert [[(v["unit"], v["row"], v["verdict"]) for v in part] for part in parts] == [
        [(0, 0, "keep")], [(1, 0, "keep")], [(2, 0, "duplicate"), (2, 1, "duplicate")],
    ]
