"""Exemplars are distinct, balanced over labels, never of the row's own group, and hang on the row's id alone."""

import json
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import RecipeMaker
from zhiling.builders.bm25 import make_index, score
from zhiling.builders.engines import row_groups
from zhiling.builders.exemplars import Exemplar, PoolJob, Room, choose, choose_nearest, make_pool
from zhiling.builders.pipeline import build
from zhiling.rows import BETWEEN_SHOTS, Columns, split_schema

POOL = {
    label: [Exemplar(i, f"{label}{i}", f"g{label}{i // 2}") for i in range(20)] for label in ("negative", "positive")
}


@given(st.text(max_size=8), st.integers(0, 8))
def test_as_many_as_asked_distinct_and_balanced(row_id: str, shots: int) -> None:
    chosen = choose(POOL, row_id, "elsewhere", shots, seed=1)
    assert len({e.id for e in chosen}) == shots
    counts = Counter(e.id.rstrip("0123456789") for e in chosen)
    assert max(counts.values(), default=0) - min(counts[label] for label in POOL) <= 1
    assert chosen == choose(POOL, row_id, "elsewhere", shots, seed=1)


@given(st.integers(0, 19))
def test_never_the_row_itself_nor_its_group(i: int) -> None:
    chosen = choose(POOL, f"positive{i}", f"gpositive{i // 2}", 40, seed=1)
    assert len(chosen) == 38
    assert all(e.group_id != f"gpositive{i // 2}" for e in chosen)


def test_a_small_pool_gives_what_it_has() -> None:
    assert choose({"a": POOL["negative"][:1]}, "x", "y", 3, seed=1) == POOL["negative"][:1]
    assert choose({}, "x", "y", 3, seed=1) == []


def test_first_label_and_place_are_drawn_per_row() -> None:
    firsts = Counter(choose(POOL, str(i), "-", 2, seed=1)[0].id for i in range(400))
    assert len(firsts) > 30


@given(st.lists(st.floats(0, 9), min_size=20, max_size=20), st.integers(0, 9), st.integers(0, 19))
def test_the_nearest_of_each_label_in_turn_the_best_last(scores: list[float], shots: int, i: int) -> None:
    chosen = choose_nearest(POOL, scores, f"positive{i}", f"gpositive{i // 2}", shots, seed=1)
    assert len({e.group_id for e in chosen}) == len(chosen) == shots  # near duplicates do not stand side by side
    assert f"gpositive{i // 2}" not in {e.group_id for e in chosen}
    counts = Counter(e.id.rstrip("0123456789") for e in chosen)
    assert max(counts.values(), default=0) - min(counts[label] for label in POOL) <= 1
    found = [scores[e.index] for e in chosen]
    assert found == sorted(found)
    assert chosen == choose_nearest(POOL, scores, f"positive{i}", f"gpositive{i // 2}", shots, seed=1)


def test_equal_scores_fall_to_the_smaller_id() -> None:
    pool = {"": [Exemplar(n, name, name) for n, name in enumerate("dacb")]}
    assert [e.id for e in choose_nearest(pool, [1.0, 0.0, 1.0, 1.0], "x", "x", 2, seed=1)] == ["b", "c"]


@given(st.lists(st.integers(0, 50), min_size=20, max_size=20), st.integers(1, 200), st.integers(1, 5))
def test_exemplars_together_keep_to_the_budget(lengths: list[int], budget: int, shots: int) -> None:
    for chosen in (
        choose(POOL, "row", "elsewhere", shots, 1, Room(lengths, budget)),
        choose_nearest(POOL, list(range(20)), "row", "elsewhere", shots, 1, Room(lengths, budget)),
    ):
        assert sum(lengths[e.index] for e in chosen) <= budget
        assert all(lengths[e.index] for e in chosen)  # 0: the template refuses it


@pytest.mark.parametrize("balanced", [True, False])
def test_pools_of_parts_put_together_are_the_pool_of_the_whole(tmp_path: Path, balanced: bool) -> None:
    columns: Columns = {"text": "string", "label": "label"}
    rows = [
        {"id": blake2b(str(n).encode(), digest_size=12).hexdigest(), "corpus": "c", "revision": "1", "license": "MIT",
         "language": "zh", "source": f"f:{n}", "text": "好" * (n % 40), "label": "abc"[n % 3], "group_id": f"g{n}",
         "split": "test" if n % 7 == 0 else "train", "augmentation": None, "parent_id": None}
        for n in range(300)
    ]
    table = pa.Table.from_pylist(rows, schema=split_schema(columns))

    def pool(*parts: pa.Table) -> pa.Table:
        with pq.ParquetWriter(tmp_path / "rows.parquet", parts[0].schema) as writer:
            for part in parts:
                writer.write_table(part)
        (piece,) = make_pool(PoolJob(tuple(row_groups([tmp_path / "rows.parquet"])), columns, 5, 20, 7, balanced))
        return piece.table

    whole = pool(table)
    assert pool(pool(table.slice(200)), pool(table.slice(0, 90)), pool(table.slice(90, 110))).equals(whole)
    assert pool(table.slice(200), table.slice(0, 200)).equals(whole)
    found = whole.to_pylist()
    assert Counter(row["label"] for row in found) == dict.fromkeys("abc", 5) if balanced else len(found) == 5
    assert all(row["split"] == "train" and len(row["text"]) <= 20 for row in found)


def test_a_row_with_a_long_passage_is_no_exemplar(tmp_path: Path) -> None:
    columns: Columns = {"question": "string", "passages": "strings"}
    same = {"corpus": "c", "revision": "1", "license": "MIT", "language": "zh", "source": "f:1", "question": "好吗？",
            "split": "train", "augmentation": None, "parent_id": None}
    passages = [["短" * 20] * 3, ["短", "长" * 21], []]
    rows = [{**same, "id": f"{n:024}", "group_id": f"g{n}", "passages": own} for n, own in enumerate(passages)]
    pq.write_table(pa.Table.from_pylist(rows, schema=split_schema(columns)), tmp_path / "rows.parquet")
    (piece,) = make_pool(PoolJob(tuple(row_groups([tmp_path / "rows.parquet"])), columns, 5, 20, 7))
    assert sorted(piece.table["passages"].to_pylist(), key=len) == [passages[2], passages[0]]


def built(make: RecipeMaker, folder: Path, **render: object) -> tuple[Path, list[dict[str, object]]]:
    recipe = make.recipe(render={"shots": {0: 0.5, 2: 0.5}, "templates_per_row": 1, **render})
    release = build(recipe, folder)
    return release, [row for f in sorted(release.glob("data/*.parquet")) for row in pq.read_table(f).to_pylist()]


def test_nearest_exemplars_stand_in_a_release_and_are_alike(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:80] + reviews[-80:])
    release, rows = built(make, tmp_path / "nearest", exemplars="nearest")
    _, drawn = built(make, tmp_path / "drawn")
    texts = {r["id"]: r for f in (release / "corpus" / "reviews").glob("*") for r in pq.read_table(f).to_pylist()}
    index = make_index([r["text"] for r in texts.values()], "zh")
    place = {name: n for n, name in enumerate(texts)}

    def likeness(some: list[dict[str, object]]) -> float:
        shot = [row for row in some if row["shots"]]
        scores = score(index, [texts[row["source_id"]]["text"] for row in shot])
        return sum(s[place[e]] for s, row in zip(scores, shot, strict=True) for e in row["exemplar_ids"])  # type: ignore[attr-defined]

    assert likeness(rows) > 2 * likeness(drawn)
    for row in rows:
        for name in row["exemplar_ids"]:  # type: ignore[attr-defined]
            assert texts[name]["split"] == "train"
            assert texts[name]["group_id"] != row["group_id"]


def test_rows_whose_exemplars_do_not_fit_are_rejected_and_counted(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:60] + reviews[-60:])
    release, rows = built(make, tmp_path / "some", exemplar_budget=130)
    shot = [row for row in rows if row["shots"]]
    assert shot
    plain = {(row["source_id"], row["template"]): row["prompt"] for row in rows if not row["shots"]}
    for row in shot:
        if own := plain.get((row["source_id"], row["template"])):  # held-out rows stand with and without exemplars
            together = len(str(row["prompt"])) - len(str(own)) - 2 * len(BETWEEN_SHOTS)
            assert 0 < together <= 130
    release, rows = built(make, tmp_path / "none", exemplar_budget=10)
    assert not any(row["shots"] for row in rows)
    rejects = [json.loads(line) for line in (release / "rejects.jsonl").read_text("utf-8").splitlines()]
    over = [r for r in rejects if r["reason"] == "over_budget"]
    assert over and all(r["detail"].endswith("0 exemplars where 2 are asked for in 10 characters") for r in over)
    ledger = json.loads((release / "manifest.json").read_text())["ledger"]["reviews"]
    assert ledger["rejects"]["render: over_budget"] == len(over)


@pytest.mark.parametrize("exemplars", ["drawn", "nearest"])
def test_labels_count_or_do_not_as_the_recipe_says(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, exemplars: str
) -> None:
    make.corpus(reviews[:20] + reviews[-100:])
    for balanced in (True, False):
        release, rows = built(make, tmp_path / str(balanced), exemplars=exemplars, balanced=balanced)
        files = (release / "corpus" / "reviews").glob("train-*.parquet")
        labels = {r["id"]: r["label"] for f in files for r in pq.read_table(f).to_pylist()}
        mixed = [len({labels[e] for e in row["exemplar_ids"]}) == 2 for row in rows if row["shots"]]  # type: ignore[attr-defined]
        assert all(mixed) is balanced
