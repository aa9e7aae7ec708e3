"""Rows of many outputs come together in order of their places, whatever outputs they came from."""

from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.builders import release_files
from zhiling.builders.engines import LocalEngine, Piece, RowGroup, Shard, count_rows
from zhiling.builders.places import place, sides_of
from zhiling.builders.release_files import files_of, place_rows, placed_schema, sizes, write_file
from zhiling.rows import EXAMPLE_SCHEMA, SPLITS, split_schema
from zhiling.seeds import draws

SHARED = {"task", "language", "pack", "template", "corpus", "revision", "license", "choices", "exemplar_ids",
          "augmentation"}
SCHEMA = placed_schema(EXAMPLE_SCHEMA, SHARED)


def example(n: int) -> dict[str, object]:
    return {
        "id": blake2b(str(n).encode(), digest_size=12).hexdigest(), "prompt": f"问{n}", "completion": "好",
        "choices": [["好", "坏"], ["是", "否"], None][n % 3], "answer": None if n % 3 == 2 else 0,
        "messages": [{"role": "user", "content": f"问{n}"}] if n % 5 == 0 else None,
        "task": "classification", "language": "zh", "pack": "zh/a", "template": f"t{n % 4}", "corpus": "c",
        "revision": "1", "license": "MIT", "source": f"f:{n}", "source_id": f"s{n}", "group_id": f"g{n}",
        "shots": n % 2, "exemplar_ids": ["e"] * (n % 2), "augmentation": None,
    }


def lay(job: list[int]) -> list[Piece]:
    """Examples in order of their places, in two pieces."""
    numbers = np.array(draws(7, "order", [str(n) for n in job]), np.uint64)
    places = place(sides_of(pa.array([SPLITS[n % 3] for n in job])), numbers)
    rows = pa.Table.from_pylist([example(n) for n in job], schema=EXAMPLE_SCHEMA)
    coded = [rows[f.name].cast(f.type) if f.name != "place" else places for f in SCHEMA]
    table = pa.table(coded, schema=SCHEMA)
    half = len(job) // 2
    parts = (table.slice(0, half), table.slice(half))
    return [Piece(SCHEMA.empty_table()), *(Piece(part.sort_by("place")) for part in parts)]


def written(folder: Path, jobs: list[list[int]]) -> dict[str, list[dict[str, object]]]:
    """The rows of each file, as a stranger reads them."""
    laid = [Shard(folder / f"{i}.arrow", job) for i, job in enumerate(jobs)]
    LocalEngine().map(lay, laid, "lay")
    outputs = [shard.output for shard in laid]
    assert sum(sizes(outputs)) == count_rows(outputs) == sum(map(len, jobs))
    files = files_of(outputs, folder / "data", folder / "notes")
    LocalEngine().map(write_file, files, "write")
    for shard in files:
        assert sum(pq.read_table(shard.output)["rows"].to_pylist()) == count_rows([shard.job.target])
        assert pq.read_schema(shard.job.target).equals(EXAMPLE_SCHEMA)
    return {p.name: pq.read_table(p).to_pylist() for p in sorted((folder / "data").iterdir())}


def test_the_files_are_the_same_however_rows_came_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_files, "FILE_ROWS", 40)
    monkeypatch.setattr(release_files, "GROUP_ROWS", 16)
    one = written(tmp_path / "one", [list(range(300))])
    many = written(tmp_path / "many", [list(range(299, 99, -1)), list(range(30, 100)), list(range(30))])
    assert one == many
    for name in one:  # to the byte: no dictionary tells in which batches they came
        assert (tmp_path / "one" / "data" / name).read_bytes() == (tmp_path / "many" / "data" / name).read_bytes()
    assert len(one) == 9 and "train-00001-of-00003.parquet" in one
    rows = {row["id"]: (name.partition("-")[0], row) for name, found in one.items() for row in found}
    assert len(rows) == 300
    for n in range(300):
        side, row = rows[example(n)["id"]]
        assert (side, row) == (SPLITS[n % 3], example(n))


def test_what_a_file_holds_is_noted_with_its_first_texts(tmp_path: Path) -> None:
    files = written(tmp_path, [list(range(60))])
    noted = pq.read_table(tmp_path / "notes" / "train-00000-of-00001.parquet").to_pylist()
    rows = files["train-00000-of-00001.parquet"]
    for line in noted:
        own = [r for r in rows if (r["template"], r["shots"]) == (line["template"], line["shots"])]
        assert line["rows"] == len(own) and line["characters"] == sum(len(str(r["prompt"])) for r in own)
        assert line["prompt"] == own[0]["prompt"]


def test_rows_of_a_corpus_are_placed_by_their_ids(tmp_path: Path) -> None:
    columns = {"text": "string", "label": "label"}
    rows = [
        {"id": blake2b(str(n).encode(), digest_size=12).hexdigest(), "corpus": "c", "revision": "1", "license": "MIT",
         "language": "zh", "source": f"f:{n}", "text": f"第{n}件", "label": None if n == 3 else "好",
         "group_id": f"g{n}", "split": SPLITS[n % 3], "augmentation": None, "parent_id": None}
        for n in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=split_schema(columns)), tmp_path / "rows.parquet")  # type: ignore[arg-type]
    job = release_files.PlaceJob(RowGroup(tmp_path / "rows.parquet", 0), columns)  # type: ignore[arg-type]
    LocalEngine().map(place_rows, [Shard(tmp_path / "placed.arrow", job)], "place")
    LocalEngine().map(write_file, files_of([tmp_path / "placed.arrow"], tmp_path / "out", tmp_path / "notes"), "write")
    for split in SPLITS:
        found = pq.read_table(tmp_path / "out" / f"{split}-00000-of-00001.parquet")
        assert found.schema.equals(split_schema(columns))  # type: ignore[arg-type]
        assert found.to_pylist() == sorted((r for r in rows if r["split"] == split), key=lambda r: str(r["id"]))
