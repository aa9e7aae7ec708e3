"""What `diff` says of two releases: every row that differs, once, and the bump that tells readers the truth."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.diff import Diff, changelog, diff
from zhiling.builders.pipeline import build
from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.store import read_json, write_manifest

RENDER = {"templates_per_row": 2, "shots": {0: 1.0}}


@pytest.fixture(scope="module")
def make_here(tmp_path_factory: pytest.TempPathFactory) -> RecipeMaker:
    return RecipeMaker(tmp_path_factory.mktemp("diff"))


@pytest.fixture(scope="module")
def release(make_here: RecipeMaker, reviews: list[dict[str, str]]) -> Path:
    make_here.corpus(reviews[:40])
    return build(make_here.recipe(render=RENDER), make_here.folder / "one")


def remake(folder: Path, **changes: Any) -> None:
    """Write the manifest of a folder anew, after its files were changed."""
    about = read_json(folder / "manifest.json") | changes
    write_manifest(folder, "release", {k: v for k, v in about.items() if k not in ("kind", "files")})


def changed(release: Path, folder: Path, file: str, change: Any) -> Path:
    """A copy of `release` with the rows of one file changed, and a manifest that agrees."""
    shutil.copytree(release, folder)
    path = next(folder.glob(file))
    pq.write_table(change(pq.read_table(path)), path)
    remake(folder, version="2.0.0")
    return folder


def counts(found: Diff) -> dict[tuple[str, str], int]:
    tables: dict[tuple[str, str], int] = {}
    for change in found.changes:
        tables[change.table, change.kind] = tables.get((change.table, change.kind), 0) + change.rows
    return tables


def test_a_release_and_itself_call_for_no_bump(release: Path, tmp_path: Path) -> None:
    place = shutil.copytree(release, tmp_path / "it's [final]" / "1.0.0")  # what a pattern would make something of
    found = diff(release, place)
    assert (found.bump, found.changes, found.words) == ("none", (), ())
    assert "The same as 1.0.0" in changelog(found)


def test_a_corpus_that_grows_is_a_minor_change_and_its_rows_are_counted_by_template(
    release: Path, make_here: RecipeMaker, reviews: list[dict[str, str]]
) -> None:
    make_here.corpus([*reviews[:40], *reviews[300:320]])
    grown = build(make_here.recipe(version="1.1.0", render=RENDER), make_here.folder / "grown")
    found = diff(release, grown)
    assert found.bump == "minor"
    assert {c.kind for c in found.changes} == {"added"}
    news = sum(s["rows"] for s in read_json(grown / "manifest.json")["splits"].values())
    olds = sum(s["rows"] for s in read_json(release / "manifest.json")["splits"].values())
    assert counts(found)["examples", "added"] == news - olds
    assert {(c.pack, c.corpus) for c in found.changes if c.table == "examples"} == {("zh/sentiment", "reviews")}
    assert f"{news - olds:,} rows are new" in changelog(found)
    assert diff(grown, release).bump == "major", "the way back removes rows"


def test_a_line_inserted_above_moves_no_row_and_restates_where_it_was_read(
    release: Path, make_here: RecipeMaker, reviews: list[dict[str, str]]
) -> None:
    make_here.corpus([{"text": "  ", "label": "positive"}, *reviews[:40]])
    shifted = build(make_here.recipe(version="1.0.1", render=RENDER), make_here.folder / "shifted")
    found = diff(release, shifted)
    assert {c.kind for c in found.changes} == {"restated"}
    assert found.bump == "patch"


def test_one_changed_word_is_found_with_its_row_column_and_values(release: Path, tmp_path: Path) -> None:
    def reword(table: pa.Table) -> pa.Table:
        said = table["completion"].to_pylist()
        return table.set_column(table.column_names.index("completion"), "completion", pa.array(["别的", *said[1:]]))

    other = changed(release, tmp_path / "b", "data/train-*.parquet", reword)
    found = diff(release, other)
    assert (found.bump, counts(found)) == ("major", {("examples", "changed"): 1})
    (sample,) = found.samples
    first = pq.read_table(next((release / "data").glob("train-*.parquet"))).to_pylist()[0]
    assert (sample.id, sample.columns) == (first["id"], {"completion": (first["completion"], "别的")})


def test_a_row_on_another_side_is_moved_and_a_dropped_one_removed(release: Path, tmp_path: Path) -> None:
    test_rows = pq.read_table(next((release / "data").glob("test-*.parquet")))
    moved = changed(release, tmp_path / "b", "data/train-*.parquet", lambda t: pa.concat_tables([t, test_rows[:1]]))
    path = next((moved / "data").glob("test-*.parquet"))
    pq.write_table(test_rows[2:], path)
    remake(moved)
    found = diff(release, moved)
    assert counts(found) == {("examples", "moved"): 1, ("examples", "removed"): 1}
    (sample,) = [s for s in found.samples if s.kind == "moved"]
    assert (sample.before, sample.after) == ("test", "train")


def test_a_column_that_comes_is_a_major_change_and_named(release: Path, tmp_path: Path) -> None:
    def widen(table: pa.Table) -> pa.Table:
        return table.append_column("mood", pa.array(["?"] * len(table)))

    found = diff(release, changed(release, tmp_path / "b", "corpus/reviews/train-*.parquet", widen))
    assert found.columns == ("corpus-reviews: + mood",)
    assert found.bump == "major"


def test_words_around_the_data_are_a_patch(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("new words")
    remake(tmp_path / "b")
    found = diff(release, tmp_path / "b")
    assert (found.bump, found.words, found.changes) == ("patch", ("README.md",), ())


def test_a_corpus_that_goes_is_rows_removed(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "corpus")
    remake(tmp_path / "b", corpora={})
    found = diff(release, tmp_path / "b")
    kept = read_json(release / "manifest.json")["ledger"]["reviews"]["rows_kept"]
    assert counts(found) == {("corpus-reviews", "removed"): kept} and found.columns == ()


def test_the_command_prints_the_bump_and_json_says_the_same(release: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(release, tmp_path / "b")
    assert run_args(["diff", str(release), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out == "tiny: 1.0.0 -> 1.0.0 says the same\n"
    assert run_args(["diff", str(release), str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bump"] == "none"


def test_a_folder_that_is_no_release_is_one_line(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json in it; give the folder of a release"):
        diff(release, tmp_path)


def test_a_release_that_lacks_a_file_or_holds_a_damaged_one_is_refused(release: Path, tmp_path: Path) -> None:
    other = changed(release, tmp_path / "other", "data/train-00000-of-00001.parquet", lambda table: table.slice(1))
    file = other / "data" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet: damaged \(.*; get the release anew"):
        diff(release, other)
    file.unlink()
    with pytest.raises(UserError, match=r"other: data/train-00000-of-00001.parquet of its manifest: no such file"):
        diff(release, other)
