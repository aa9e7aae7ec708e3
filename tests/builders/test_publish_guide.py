"""The publisher's guide, command by command, against a server that speaks the Hub's API."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.history import MAIN
from tests.hub.server import Hub
from zhiling.cli import run_args
from zhiling.store import read_json

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes
GUIDE = Path(__file__).parents[2] / "docs" / "publishers_guide.md"
BIN = Path(sys.executable).parent


def commands() -> list[str]:
    """The guide's commands in order; a here-document is one with the lines that it holds."""
    found = []
    for block in re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        found += re.findall(r"^cat .*?^END$|^.+$", block, re.DOTALL | re.MULTILINE)
    return [command for chunk in found for command in ([chunk] if chunk.startswith("cat") else chunk.splitlines())]


def test_every_command_of_the_guide_does_what_it_says(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HF_HOME": str(tmp_path / "home")}
    shown: dict[str, str] = {}
    for command in commands():
        if command.startswith("zhiling "):
            assert run_args(shlex.split(command)[1:]) == 0, f"{command}\n{capsys.readouterr().err}"
        else:
            done = subprocess.run(["bash", "-ec", command], env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
        shown[command] = capsys.readouterr().out
    assert len([c for c in shown if c.startswith("zhiling ")]) == 15

    repo = hub.history.find("dataset", "org/shop-reviews")
    assert {r.removeprefix("refs/tags/") for r in repo.refs if "tags" in r} == {"v1.0.0", "v1.1.0", "v2.0.0"}
    assert repo.refs["refs/tags/v2.0.0"] == repo.refs[MAIN]
    assert repo.pulls[0]["status"] == "merged"
    (collection,) = hub.history.collections.values()
    assert collection["title"] == "Reviews in Chinese"
    diffs = [out for command, out in shown.items() if command.startswith("zhiling diff")]
    assert [out.split()[-3:] for out in diffs] == [["a", "minor", "change"]] * 2 + [["a", "major", "change"]]
    (explained,) = [out for command, out in shown.items() if command.startswith("zhiling explain")]
    assert "gadgets.jsonl:5" in explained
    card = Path("out/shop-reviews/2.0.0/README.md").read_text(encoding="utf-8")
    assert "| 1.1.0 | superseded by 2.0.0, a major change; A sarcastic review was labelled positive. |" in card
    assert "| 1.0.0 | superseded by 1.1.0, a minor change; Hotels, and answers as JSON. |" in card
    assert read_json(Path("first-release/manifest.json"))["version"] == "1.0.0"
