"""What becomes of each row: one row per text stays, contradictions go, groups keep to one side, whatever the order."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders.clean import KEY_SCHEMA, CleanSettings, fold_key
from zhiling.builders.duplicates import Leak, judge_rows
from zhiling.builders.engines import RowGroup
from zhiling.builders.near_duplicates import NearSettings, sketch
from zhiling.builders.split import SplitSettings

Row = dict[str, Any]
NEAR = NearSettings()
LONG = "这家店的东西真的非常好，下次还会再来买，推荐给大家"


def judged(
    folder: Path, rows: list[Row], clean: Row | None = None, split: Row | None = None
) -> tuple[list[Row], Leak, Path]:
    """The verdict on each of `rows` (id, text, and what else a key row holds), in their order; the leak; the lists."""
    folder.mkdir(parents=True, exist_ok=True)
    base = {"unit": 0, "label": "", "corpus": "c", "naive": "train", "own": None, "ties": [], "language": "zh"}
    made = [
        base | {"row": n, "key": fold_key([r["text"]]), "source": f"s{n}"} | r for n, r in enumerate(rows)
    ]
    bands = sketch([r["text"] for r in rows], "zh", NEAR).to_pylist()
    table = pa.Table.from_pylist([r | {"bands": b} for r, b in zip(made, bands, strict=True)], schema=KEY_SCHEMA)
    pq.write_table(table, folder / "keys.parquet")
    out = folder / "verdicts.parquet"
    settings = CleanSettings.model_validate(clean or {}), SplitSettings.model_validate(split or {})
    leak = judge_rows([folder / "keys.parquet"], *settings, 1, None, out)
    return pq.read_table(out).to_pylist(), leak, folder / "review"


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verdicts(found: list[Row]) -> list[str]:
    return [v["verdict"] for v in found]


def test_one_row_of_a_text_stays_whatever_the_order(tmp_path: Path) -> None:
    rows = [
        {"id": "b", "text": "好用", "label": "x", "naive": "train"},
        {"id": "a", "text": "好 用", "label": "x", "naive": "test"},
        {"id": "c", "text": "一般", "label": "x", "naive": "train"},
        {"id": "d", "text": "凑合", "label": "x", "naive": "test"},
        {"id": "e", "text": "凑合", "label": "y", "naive": "train"},
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
    rows = [{"id": "a", "text": LONG}, {"id": "b", "text": LONG + "！哦", "naive": "test"}, {"id": "c", "text": other}]
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
    rows = [{"id": i, "text": "凑合", "label": label} for i, label in labels]
    found, _, review = judged(tmp_path, rows, {"label_conflicts": policy})
    assert verdicts(found) == expected
    [listed] = lines(review / "label_conflicts.jsonl")
    assert listed["text"] == "凑合"
    assert [r["label"] for r in listed["rows"]] == [label for _, label in labels]


def test_labels_may_have_to_agree_within_a_whole_group(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": LONG, "label": "x"}, {"id": "b", "text": LONG + "！哦", "label": "y"}]
    assert verdicts(judged(tmp_path / "text", rows)[0]) == ["keep", "keep"]
    assert verdicts(judged(tmp_path / "group", rows, {"conflicts_within": "group"})[0]) == ["label_conflict"] * 2


def test_a_text_that_stands_in_the_sources_test_split_is_taken_out_of_its_train_split(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": LONG, "own": "train"}, {"id": "b", "text": LONG + "！哦", "own": "test"},
        {"id": "c", "text": "物流太慢，等了一个星期才到，差评", "own": "train"},
    ]
    found, _, _ = judged(tmp_path, rows)
    assert verdicts(found) == ["stands_in_another_split", "keep", "keep"]
    assert found[0]["detail"] == "its text or a near duplicate stands in the test split"
    assert [v["side"] for v in found] == ["test", "test", "train"]


def test_rows_of_one_user_share_a_group_named_by_the_user(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "好用", "ties": ["user1"]}, {"id": "b", "text": "物流慢", "ties": ["user1"]},
        {"id": "c", "text": "好"},
    ]
    found, _, _ = judged(tmp_path, rows)
    assert [v["group_id"] for v in found] == ["user1", "user1", fold_key(["好"])]


def test_stratified_sides_have_the_shares_of_each_label(tmp_path: Path) -> None:
    rows = [{"id": f"{i:03}", "text": f"第{i}条", "label": "xy"[i % 5 == 0]} for i in range(200)]
    found, _, _ = judged(tmp_path, rows, split={"stratify": True, "train": 0.7, "validation": 0.1, "test": 0.2})
    for label, size in (("x", 160), ("y", 40)):
        sides = [v["side"] for r, v in zip(rows, found, strict=True) if r["label"] == label]
        assert {s: sides.count(s) / size for s in set(sides)} == {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_the_verdicts_of_a_unit_stand_in_the_part_of_its_number(tmp_path: Path) -> None:
    rows = [{"id": f"{n:02d}", "text": f"第{n % 4}条", "unit": n // 3, "row": n % 3} for n in range(9)]
    judged(tmp_path, rows)
    parts = [RowGroup(tmp_path / "verdicts.parquet", unit).read().to_pylist() for unit in range(3)]
    assert [[(v["unit"], v["row"]) for v in part] for part in parts] == [[(u, r) for r in range(3)] for u in range(3)]
    assert [v["verdict"] for part in parts for v in part] == ["keep"] * 4 + ["duplicate"] * 5
