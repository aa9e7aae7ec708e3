"""Which renderings a row is asked for, and that their columns belong together."""

from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders.engines import RowGroup
from zhiling.builders.examples import RenderJob, make_examples
from zhiling.builders.exemplars import PoolJob, make_pool
from zhiling.builders.recipe import RenderSettings
from zhiling.rows import SPLITS, split_schema
from zhiling.templates.pack import load_pack

PACK = load_pack("zh/sentiment")
TEMPLATES = ("question", "cloze", "json")


def name(number: int) -> str:
    """An id as rows have them."""
    return blake2b(str(number).encode(), digest_size=12).hexdigest()


def job(folder: Path, count: int = 400, **settings: object) -> RenderJob:
    """Split rows, a fifth of them held out, and a pool drawn from them."""
    rows = [
        {"id": name(i), "corpus": "c", "revision": "1", "license": "MIT", "language": "zh", "source": f"f:{i}",
         "text": f"第{i}件，很好", "label": ("positive", "negative")[i % 2], "group_id": f"g{i}",
         "split": "test" if i % 5 == 0 else "train", "augmentation": None, "parent_id": None}
        for i in range(count)
    ]
    schema = split_schema(PACK.settings.columns)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "rows.parquet")
    part = RowGroup(folder / "rows.parquet", 0)
    (pool,) = make_pool(PoolJob((part,), PACK.settings.columns, 16, 100, 7))
    pq.write_table(pool.table, folder / "pool.parquet")
    return RenderJob((part,), folder / "pool.parquet", PACK.folder, PACK.digest, TEMPLATES,
                     RenderSettings.model_validate(settings), 7)


def examples(made: RenderJob) -> list[dict[str, object]]:
    """The examples with their sides, as their places tell them."""
    rows = [row for piece in make_examples(made) for row in piece.table.to_pylist()]
    return [{**row, "split": SPLITS[row["place"] >> 62]} for row in rows]


@pytest.mark.parametrize("few", [1, 2, 3, 9])
def test_train_rows_get_a_few_templates_and_held_out_rows_all(tmp_path: Path, few: int) -> None:
    found = Counter((r["split"], r["source_id"]) for r in examples(job(tmp_path, templates_per_row=few)))
    assert {n for (side, _), n in found.items() if side == "train"} == {min(few, 3)}
    assert {n for (side, _), n in found.items() if side == "test"} == {3}
    assert len(found) == 400


def test_each_template_is_drawn_about_as_often(tmp_path: Path) -> None:
    rows = examples(job(tmp_path, templates_per_row=1))
    found = Counter(r["template"] for r in rows if r["split"] == "train")
    assert set(found) == set(TEMPLATES) and min(found.values()) > 80


def test_shots_have_their_shares(tmp_path: Path) -> None:
    rows = examples(job(tmp_path, templates_per_row=3, shots={0: 3, 2: 1}))
    train = Counter(r["shots"] for r in rows if r["split"] == "train")
    assert 0.7 < train[0] / train.total() < 0.8
    assert Counter(r["shots"] for r in rows if r["split"] == "test") == {0: 240, 2: 240}


def test_the_columns_of_a_row_belong_together(tmp_path: Path) -> None:
    for r in examples(job(tmp_path, count=60, shots={0: 1, 1: 1})):
        number = str(r["source"]).removeprefix("f:")
        assert f"第{number}件" in str(r["prompt"]).rpartition("\n\n")[2]
        assert (r["group_id"], r["pack"]) == (f"g{number}", "zh/sentiment")
        assert r["source_id"] == name(int(number))
        assert r["split"] == ("test" if int(number) % 5 == 0 else "train")
        assert len(r["exemplar_ids"]) == r["shots"] and r["source_id"] not in r["exemplar_ids"]  # type: ignore[arg-type,operator]
        if r["choices"] is not None:
            assert r["choices"][r["answer"]] == r["completion"]  # type: ignore[index]


def test_a_row_s_example_is_the_same_in_any_company(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    many = {r["id"]: r for r in examples(job(tmp_path, templates_per_row=2))}
    few = examples(job(tmp_path / "few", count=40, templates_per_row=2))
    assert all(many[r["id"]] == r for r in few)


def test_each_template_s_rows_come_in_order_of_their_places(tmp_path: Path) -> None:
    for piece in make_examples(job(tmp_path, shots={0: 1, 1: 1})):
        places = piece.table["place"].to_pylist()
        assert places == sorted(places)
