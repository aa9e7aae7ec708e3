"""Exports say the same as the release, in the shapes that other trainers read."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.export import as_alpaca, as_messages, as_sharegpt, export
from zhiling.builders.pipeline import build
from zhiling.cli import run_args
from zhiling.errors import UserError

PLAIN = {"id": "a", "prompt": "天气如何？答：", "completion": "晴", "messages": None}
TALK = {
    "id": "b", "prompt": "flattened", "completion": " no",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": "Where?"},
        {"role": "user", "content": "Here."},
        {"role": "assistant", "content": "no"},
    ],
}


def test_a_plain_example_is_a_question_and_an_answer() -> None:
    assert as_messages(PLAIN)["messages"] == [
        {"role": "user", "content": "天气如何？答："}, {"role": "assistant", "content": "晴"}
    ]
    assert as_alpaca(PLAIN) == {"id": "a", "instruction": "天气如何？答：", "input": "", "output": "晴"}


def test_a_conversation_keeps_its_turns() -> None:
    assert as_messages(TALK)["messages"] == TALK["messages"]
    assert [t["from"] for t in as_sharegpt(TALK)["conversations"]] == ["system", "human", "gpt", "human", "gpt"]
    assert as_alpaca(TALK) == {
        "id": "b", "instruction": "Here.", "input": "", "output": "no",
        "system": "Be brief.", "history": [["Is it raining?", "Where?"]],
    }


def test_a_release_is_exported_row_for_row(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    make.corpus(reviews[:40] + reviews[-40:])
    release = build(make.recipe(), tmp_path / "out")
    counts = export(release, "sharegpt", tmp_path / "chat")
    manifest = json.loads((release / "manifest.json").read_text())
    assert counts == {split: about["rows"] for split, about in manifest["splits"].items()}
    for split, count in counts.items():
        lines = (tmp_path / "chat" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == count
        assert all(json.loads(line)["conversations"][-1]["from"] == "gpt" for line in lines)
    with pytest.raises(UserError, match="is there already"):
        export(release, "alpaca", tmp_path / "chat")


def test_a_release_that_is_not_whole_is_not_exported(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    release = build(make.recipe(render={}), tmp_path / "out")
    (file,) = (release / "data").glob("train-*")
    whole = file.read_bytes()
    stray = file.with_name("train-00001-of-00002.parquet")
    stray.write_bytes(whole)
    rows = sum(1 for row in pq.read_table(file)["id"])
    assert export(release, "messages", tmp_path / "stray")["train"] == rows  # a file that nobody listed says nothing
    assert run_args(["export", str(release), "-o", str(file / "below")]) == 2
    assert "not a directory; choose another place" in capsys.readouterr().err
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet: damaged \(.*\); get the release anew"):
        export(release, "messages", tmp_path / "half")
    file.unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet of its manifest: no such file; get the"):
        export(release, "messages", tmp_path / "none")
    assert not (tmp_path / "half").exists() and not (tmp_path / "none").exists()
