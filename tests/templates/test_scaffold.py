"""A new pack: read, linted and rendered without a word changed."""

from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.templates.lint import lint_pack
from zhiling.templates.pack import read_pack
from zhiling.templates.scaffold import new_pack


@pytest.mark.parametrize("name", ["zh/my_task", "en/my_task"])
def test_a_new_pack_lacks_nothing_but_templates(tmp_path: Path, name: str) -> None:
    folder = new_pack(name, tmp_path)
    assert folder == tmp_path / name
    assert [(f.code, f.severity) for f in lint_pack(folder)] == [("ZT003", "warning")]
    assert read_pack(folder).name == name


@pytest.mark.parametrize("name", ["my_task", "fr/task", "zh/My Task", "zh/../x", "zh/a/b", ""])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a pack's name; write zh/ or en/ and small letters"):
        new_pack(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    folder = new_pack("zh/mine", tmp_path)
    (folder / "pack.yaml").write_text("mine")
    with pytest.raises(UserError, match="it is there already; choose another name, or remove it"):
        new_pack("zh/mine", tmp_path)
    assert (folder / "pack.yaml").read_text() == "mine"
