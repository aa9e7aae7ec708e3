"""Results folders as strangers send them."""

import json
from pathlib import Path
from typing import Any

import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.results import find_runs, prompt_digest, read_run

DOC = {"prompt": "好看。情感：", "choices": ["正面", "负面"], "answer": 0, "pack": "zh/sentiment", "template": "cloze",
       "shots": 0, "source_id": "a", "group_id": "g"}
SAMPLE = {"doc": DOC, "target": "0", "filtered_resps": [["-1.5", "False"], ["-2.0", "False"]], "metrics": ["acc"],
          "acc": 1.0, "prompt_hash": prompt_digest(DOC["prompt"])}  # as stock lm-eval writes it: numbers as text


def write(folder: Path, samples: list[Any], effective: int) -> Path:
    folder.mkdir()
    results = {"results": {"t_1": {"acc,none": 1.0}}, "n-samples": {"t_1": {"original": 9, "effective": effective}}}
    (folder / "results_2026.json").write_text(json.dumps(results))
    lines = "".join(json.dumps(s) + "\n" if not isinstance(s, str) else s for s in samples)
    (folder / "samples_t_1_2026.jsonl").write_text(lines)
    return folder


def test_what_stock_lm_eval_writes_is_read(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "m", [SAMPLE], 1))
    (sample,) = run.samples
    assert (run.model, sample.task, sample.logprobs) == ("m", "t_1", (-1.5, -2.0))
    assert (sample.prediction, sample.target, sample.correct) == ("正面", "正面", True)
    assert find_runs(tmp_path) == [tmp_path / "m"]


@pytest.mark.parametrize(
    ("samples", "effective", "message"),
    [
        ([SAMPLE], 2, "1 samples of t_1 where the results count 2; samples are missing or cut short"),
        ([json.dumps(SAMPLE)], 1, "samples_t_1_2026.jsonl:1: not a sample \\(cut short\\)"),
        ([json.dumps(SAMPLE)[:50] + "\n"], 1, "samples_t_1_2026.jsonl:1: not a sample"),
        ([SAMPLE | {"doc": {"prompt": "x"}}], 1, "no 'pack' in the sample|no 'choices'|not a sample"),
        ([SAMPLE | {"target": "7"}], 1, "not a sample"),
        ([SAMPLE | {"doc": 0}], 1, "not a sample"),
        ([SAMPLE | {"filtered_resps": [["nan", "0"], ["-2.0", "0"]]}], 1, "a log-probability that is no number"),
    ],
)
def test_what_is_damaged_is_said_with_its_line(
    tmp_path: Path, samples: list[Any], effective: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_run(write(tmp_path / "m", samples, effective))


def test_folders_that_hold_no_run_or_two(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results_"):
        read_run(tmp_path)
    folder = write(tmp_path / "m", [SAMPLE], 1)
    (folder / "results_2027.json").write_text("{}")
    with pytest.raises(UserError, match="2 results files; keep one run in a folder"):
        read_run(folder)


@pytest.mark.parametrize(("file", "told"), [
    ("results_2026.json", {"results": {"t_1": 1}}), ("results_2026.json", {"results": {}, "configs": {"t_1": "x"}}),
    ("results_2026.json", {"results": {}, "configs": {"t_1": {"metadata": []}}}),
    ("results_2026.json", {"results": {}, "n-samples": 3}),
    ("manifest.json", {"kind": "results", "tasks": {"t_1": None}}),
    ("manifest.json", {"kind": "results", "model": "m"}),
])
def test_what_has_another_shape_is_named(tmp_path: Path, file: str, told: dict[str, Any]) -> None:
    folder = write(tmp_path / "m", [SAMPLE], 1)
    (folder / file).write_text(json.dumps(told))
    with pytest.raises(UserError, match=rf"{file}: its '.*' is not what lm-eval or zhiling writes"):
        read_run(folder)
