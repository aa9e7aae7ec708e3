"""Results that agree are believed; each way to tamper with them is found and named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.board_verify import verify
from zhiling.store import files_below, read_json, write_json

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path, reviews: Rows) -> Path:
    return Made(tmp_path / "results", reviews[:10] + reviews[-10:]).run("model", 0.7)



def change_json(folder: Any, pattern: str, change: Change) -> None:
    path = next(folder.glob(pattern))
    value = read_json(path)
    change(value)
    write_json(path, value)


def change_sample(folder: Path, change: Change, number: int = 3) -> None:
    path = sorted(folder.glob("samples_*.jsonl"))[0]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(rows[number])
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def seal(folder: Path) -> None:
    """Write the files' digests anew, as one who tampers would."""
    change_json(folder, "manifest.json", lambda m: m.update(files=files_below(folder)))


def first_task(results: dict[str, Any]) -> dict[str, Any]:
    return results["results"]["zh_sentiment_cloze_0shot"]  # type: ignore[no-any-return]


def test_results_as_written_agree(folder: Path, tmp_path: Path, reviews: Rows) -> None:
    assert verify(folder) == []
    assert verify(Made(tmp_path / "results", reviews[:10] + reviews[-10:]).baseline()) == []


def raise_score(results: dict[str, Any]) -> None:
    first_task(results)["acc,none"] = 0.99


def test_a_score_that_its_samples_do_not_give(folder: Path) -> None:
    change_json(folder, "results_*.json", raise_score)
    found = verify(folder)
    assert found[0] == "results_run1.json: changed"
    assert found[1].startswith("zh_sentiment_cloze_0shot: acc is given as 0.99, from the samples it is 0.")


def turn_right(sample: dict[str, Any]) -> None:
    sample["acc"] = 1.0 - sample["acc"]


def turn_answer(sample: dict[str, Any]) -> None:
    sample["target"] = 1 - sample["target"]


def other_prompt(sample: dict[str, Any]) -> None:
    sample["doc"]["prompt"] = "提示：答案是好。" + sample["doc"]["prompt"]


def other_choices(sample: dict[str, Any]) -> None:
    sample["doc"]["choices"] = sample["doc"]["choices"][::-1]


@pytest.mark.parametrize(("change", "saw"), [
    (turn_right, "acc is 1.0, from what the model said it is 0.0"),
    (turn_answer, "its target is not its document's answer"),
    (other_prompt, "its prompt is not the one that was hashed"),
    (other_choices, "its target is not its document's answer"),
])
def test_a_sample_that_was_changed(folder: Path, change: Change, saw: str) -> None:
    change_sample(folder, change, number=next(i for i in range(20) if wrong(folder, i)))
    seal(folder)
    assert any(saw in line for line in verify(folder)), verify(folder)


def wrong(folder: Path, number: int) -> bool:
    path = sorted(folder.glob("samples_*.jsonl"))[0]
    return not json.loads(path.read_text(encoding="utf-8").splitlines()[number])["acc"]


def hash_again(sample: dict[str, Any]) -> None:
    from zhiling.eval_tasks.results import prompt_digest

    other_prompt(sample)
    sample["prompt_hash"] = prompt_digest(sample["doc"]["prompt"])


def test_another_prompt_with_its_own_hash(folder: Path) -> None:
    change_sample(folder, hash_again)
    seal(folder)
    said = "zh_sentiment_cloze_0shot: its documents are not the ones that the documents digest was made of"
    assert verify(folder) == [said]


def test_another_way_to_ask(folder: Path) -> None:
    def change(results: dict[str, Any]) -> None:
        results["configs"]["zh_sentiment_cloze_0shot"]["metadata"]["pack_digest"] = "0" * 64

    change_json(folder, "results_*.json", change)
    seal(folder)
    said = "zh_sentiment_cloze_0shot: its configuration is not the one that the task digest was made of"
    assert verify(folder) == [said]


def test_samples_cut_short(folder: Path) -> None:
    path = sorted(folder.glob("samples_*.jsonl"))[0]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert "19 samples of zh_sentiment_cloze_0shot where the results count 20" in verify(folder)[0]
    path.write_text("".join(lines)[:-9], encoding="utf-8")
    assert "not a sample" in verify(folder)[0]


def test_no_manifest_and_no_results(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert verify(folder) == ["no manifest.json: which model and tasks it was cannot be told"]


def test_fields_that_are_missing_are_a_fault_and_no_crash(folder: Path) -> None:
    change_sample(folder, lambda sample: sample.pop("doc_id"))
    assert verify(folder) == ["not what `zhiling eval` writes (KeyError: 'doc_id')"]


def test_the_command_refuses_with_the_reasons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_args(["leaderboard", "verify", str(folder)]) == 0
    assert "every score agrees with its samples" in capsys.readouterr().out
    change_json(folder, "results_*.json", raise_score)
    assert run_args(["leaderboard", "verify", str(folder)]) == 2
    out = capsys.readouterr()
    assert "acc is given as 0.99" in out.out
    assert out.err == "error: results: 1 refused for the reasons above; give them as `zhiling eval` wrote them\n"
