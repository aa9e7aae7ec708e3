"""The recipe at the head of docs/building.md is whole: what it says to type, typed in an empty folder."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from zhiling.cli import run_args
from zhiling.store import read_json

PAGE = Path(__file__).parents[2] / "docs" / "building.md"


def test_the_smallest_recipe_builds_where_it_is_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = [line for line in block.splitlines() if line.startswith("zhiling ")]
    subprocess.run(["bash", "-ec", block[: block.index("zhiling build")]], check=True)
    for command in commands:
        assert run_args(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    ledger = read_json(tmp_path / "out" / "my-reviews" / "1.0.0" / "manifest.json")["ledger"]
    assert ledger["reviews"]["rows_kept"] == 4
