"""Which rows a stage sees: few texts of each class are nested draws, exemplars never bring others in."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.errors import UserError
from zhiling.store import read_manifest, write_manifest
from zhiling.trainer.config import FinetuneSettings, InstructSettings, Side
from zhiling.trainer.data import read_classes, read_corpora, read_parents
from zhiling.trainer.labelled import read_labelled, the_pack
from zhiling.trainer.select_rows import select_rows


def sources(release: Path, shots: int) -> set[str]:
    table = select_rows(release, "train", InstructSettings(shots_per_class=shots), 1)
    return set(table["source_id"].to_pylist())


def test_few_shots_are_as_many_texts_of_each_class_and_nested(release: Path) -> None:
    classes = read_classes(release, "train")
    for small, large in ((4, 8), (8, 16)):
        assert sources(release, small) <= sources(release, large)
    counts = {label: sum(classes[s] == label for s in sources(release, 8)) for label in ("positive", "negative")}
    assert min(counts.values()) >= 6 and max(counts.values()) <= 8  # a text may have few-shot rows only


@pytest.fixture
def with_copies(release: Path, tmp_path: Path) -> Path:
    """The release, every second train text of a class being a copy of the one before it."""
    made = Path(shutil.copytree(release, tmp_path / "copies"))
    (path,) = (made / "corpus" / "reviews").glob("train-*.parquet")
    table = pq.read_table(path)
    rows = table.sort_by([("label", "ascending"), ("id", "ascending")]).to_pylist()
    for one, other in zip(rows[::2], rows[1::2], strict=False):
        if one["label"] == other["label"]:
            other |= {"parent_id": one["id"], "augmentation": "typo"}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    about = read_manifest(made, "release")
    write_manifest(made, "release", {k: v for k, v in about.items() if k not in ("kind", "files")})
    return made


def test_copies_are_no_texts_of_their_own(with_copies: Path) -> None:
    """Eight texts of each class are eight that somebody wrote, and what augmentation made of these."""
    parents, classes = read_parents(with_copies, "train"), read_classes(with_copies, "train")
    assert len(parents) > len(classes) / 3
    own = FinetuneSettings(shots_per_class=8, head="sequence")
    pack = the_pack(with_copies, "sequence", None)
    found = {row.id for row in read_labelled(with_copies, "train", pack, "sequence", own, 1, "\n")}
    written = [s for s in found if s not in parents]
    assert sorted(classes[s] for s in written) == ["negative"] * 8 + ["positive"] * 8
    assert found == {*written, *(copy for copy, parent in parents.items() if parent in written)} > set(written)
    rows = sources(with_copies, 8)
    assert all(parents[s] in written for s in rows if s in parents) and len(rows - parents.keys()) <= 16


def test_exemplars_are_among_the_few(release: Path) -> None:
    table = select_rows(release, "train", InstructSettings(shots_per_class=64), 1)
    shown = {e for row in table["exemplar_ids"].to_pylist() for e in row or []}
    seen = [read_classes(release, "train")[s] for s in shown | set(table["source_id"].to_pylist())]
    assert shown and max(seen.count(label) for label in set(seen)) <= 64


def test_packs_templates_and_shots_filter(release: Path) -> None:
    own = InstructSettings(packs=["zh/sentiment"], templates=["json"], shots=[0])
    table = select_rows(release, "train", own, 1)
    assert set(zip(table["template"].to_pylist(), table["shots"].to_pylist(), strict=True)) == {("json", 0)}


def test_validation_rows_are_a_keyed_draw(release: Path) -> None:
    few, many = (select_rows(release, "validation", InstructSettings(validation_rows=n), 1) for n in (5, 20))
    assert len(few) == 5 and set(few["id"].to_pylist()) <= set(many["id"].to_pylist())


def test_an_unknown_template_or_corpus_is_named(release: Path) -> None:
    with pytest.raises(UserError, match="no template 'jsn' in it; did you mean 'json'"):
        select_rows(release, "train", InstructSettings(templates=["jsn"]), 1)
    with pytest.raises(UserError, match="no corpus 'review' in it; did you mean 'reviews'"):
        select_rows(release, "train", InstructSettings(corpora=["review"]), 1)


def test_a_few_of_each_class_of_nothing_with_labels_is_refused(
    make: RecipeMaker, reviews: list[dict[str, str]]
) -> None:
    rows = [{"text": f"听说李明去过{place}。{row['text'][:16]}", "types": ["人名"],
             "entities": [{"start": 2, "text": "李明", "label": "人名"}]}
            for row, place in zip(reviews[180:220], ["北京", "上海"] * 20, strict=True)]
    make.corpus(rows)
    made = build(make.recipe(corpus={"pack": "zh/entities"}, render={"templates_per_row": 1}), make.folder / "out")
    with pytest.raises(UserError, match="shots_per_class: 16, and no row asked for is of a text with a label; leave"):
        select_rows(made, "train", InstructSettings(shots_per_class=16), 1)


@pytest.fixture(scope="module")
def two_corpora(reviews: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of one pack and two corpora."""
    make = RecipeMaker(tmp_path_factory.mktemp("two"))
    make.corpus(reviews[:60] + reviews[-60:])
    make.corpus(reviews[200:260] + reviews[-260:-200], "more.jsonl")
    corpora = [{"name": name, "pack": "zh/sentiment", "license": "MIT", "files": [{"path": f"{name}.jsonl"}]}
               for name in ("reviews", "more")]
    return build(make.recipe(corpora=corpora), make.folder / "out")


@pytest.mark.parametrize("side", ["train", "validation"])
def test_corpora_filter_rows_and_the_texts_of_a_head(two_corpora: Path, side: Side) -> None:
    own = FinetuneSettings(corpora=["more"])
    assert select_rows(two_corpora, side, own, 1)["corpus"].unique().to_pylist() == ["more"]
    pack = the_pack(two_corpora, "sequence", None)
    some, every = (
        {row.id for row in read_labelled(two_corpora, side, pack, "sequence", chosen, 1, " ")}
        for chosen in (own, FinetuneSettings())
    )
    of_more = {row["id"] for _, row in read_corpora(two_corpora, side, corpora=["more"])}
    assert some == of_more < every
    twice = [row["id"] for _, row in read_corpora(two_corpora, side, corpora=["more", "more"])]
    assert len(twice) == len(of_more)  # named twice, read once


def test_an_unknown_corpus_is_named_to_a_head_too(two_corpora: Path) -> None:
    with pytest.raises(UserError, match="no corpus 'mor' in it; did you mean 'more'"):
        list(read_corpora(two_corpora, "train", corpora=["mor"]))
