"""Packs in numbers: what is measured, and that the table in templates/README.md is that of the packs."""

from pathlib import Path

import pytest

from tests.templates.strategies import make_pack
from zhiling.errors import UserError
from zhiling.templates.pack import load_pack, pack_names
from zhiling.templates.quality import as_markdown, measure, renewed

README = Path(__file__).parents[2] / "templates" / "README.md"
ROWS = [{"text": f"第{i}句", "label": label} for i, label in enumerate(["positive", "negative"] * 4)]
ASK = {"prompt": "{{ text }}\n感情：", "completion": "{{ verbalizer[label] }}"}


def test_the_table_in_the_readme_is_that_of_the_packs() -> None:
    text = README.read_text(encoding="utf-8")
    table = as_markdown([measure(load_pack(name)) for name in pack_names()])
    assert renewed(text, table, "README.md") == text, "zhiling template report --write templates/README.md"


def test_equal_templates_are_not_unlike(tmp_path: Path) -> None:
    found = measure(make_pack(tmp_path, ASK, ASK, examples=ROWS))
    assert (found.unlike_mean, found.unlike_least, found.shortest, found.longest) == (0.0, 0.0, 7, 7)


def test_places_of_the_right_choice(tmp_path: Path) -> None:
    rows = [{**row, "label": "positive"} for row in ROWS]
    shuffled = {**ASK, "prompt": "{{ text }}是{{ choices | join('还是') }}？", "shuffle_choices": True}
    assert measure(make_pack(tmp_path / "a", ASK, examples=ROWS)).places == 1.0
    assert measure(make_pack(tmp_path / "b", ASK, examples=rows)).places == 0.0
    balanced = measure(make_pack(tmp_path / "c", shuffled, examples=rows)).places
    assert balanced is not None and balanced > 0.9
    assert measure(make_pack(tmp_path / "d", {**ASK, "choices": "none"}, examples=ROWS)).places is None


def test_a_file_without_marks_is_refused() -> None:
    with pytest.raises(UserError, match="no marks for the report in it; write <!-- report --> and <!-- end"):
        renewed("text", "table", "README.md")
