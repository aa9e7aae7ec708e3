"""Every row of a release can be traced to its source and rendered again to the byte."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.explain import explain
from zhiling.builders.pipeline import build
from zhiling.errors import UserError


@pytest.fixture
def release(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> Path:
    make.corpus(reviews[:80] + reviews[-80:])
    return build(make.recipe(), tmp_path / "out")


def test_every_test_row_is_traced_and_rendered_again_to_the_byte(release: Path) -> None:
    rows = [r for f in (release / "data").glob("test-*.parquet") for r in pq.read_table(f).to_pylist()]
    assert any(r["shots"] for r in rows) and any(r["messages"] for r in rows)
    for row in rows[::3]:
        found = explain(release, row["id"])
        assert found.same_bytes, row["template"]
        assert found.split == "test"
        assert found.chain[-1].id == row["source_id"]
        assert found.chain[0].source == row["source"]
        assert row["source_id"] in found.group
        assert [e.id for e in found.exemplars] == row["exemplar_ids"]


def test_its_source_is_a_file_and_a_line(release: Path, reviews: list[dict[str, str]]) -> None:
    row = pq.read_table(next((release / "data").glob("train-*.parquet"))).to_pylist()[0]
    found = explain(release, row["id"])
    file, _, line = found.chain[0].source.rpartition(":")
    assert file == "reviews.jsonl"
    written = (release.parents[2] / "reviews.jsonl").read_text(encoding="utf-8").splitlines()
    assert found.chain[0].fields["text"] in written[int(line) - 1]


def test_what_was_drawn_for_it_is_told_and_nothing_else(make: RecipeMaker, release: Path, tmp_path: Path) -> None:
    mixed = build(make.recipe(version="1.1.0", mixture={"cap": 50}), tmp_path / "out")
    for folder, train_only in ((release, {"templates", "shots"}), (mixed, {"templates", "shots", "mixture"})):
        for side, more in (("train", train_only), ("test", set())):
            (file,) = (folder / "data").glob(f"{side}-*.parquet")
            row = pq.read_table(file, filters=[("shots", "=", 0)]).to_pylist()[0]
            draws = set(explain(folder, row["id"]).draws)
            assert {d for d in draws if not d.startswith("choices:")} == {"split", "order", *more}


def test_an_unknown_id_is_one_clear_line(release: Path) -> None:
    with pytest.raises(UserError, match="no row with the id 'nowhere'; take an id from the column `id`"):
        explain(release, "nowhere")


def test_a_file_that_is_damaged_or_gone_is_one_clear_line(release: Path) -> None:
    (file,) = (release / "data").glob("train-*")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet: damaged \(.*\); get the release anew"):
        explain(release, "nowhere")
    file.unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet of its manifest: no such file; get the release"):
        explain(release, "nowhere")
