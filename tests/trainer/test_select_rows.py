"""Which rows a stage sees: few texts of each class are nested draws, exemplars never bring others in."""

from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.trainer.config import InstructSettings
from zhiling.trainer.data import read_classes
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


def test_an_unknown_template_is_named(release: Path) -> None:
    with pytest.raises(UserError, match="no template 'jsn' in it; did you mean 'json'"):
        select_rows(release, "train", InstructSettings(templates=["jsn"]), 1)
