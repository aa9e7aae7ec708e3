"""What a run leaves behind, and how little of it has to be given on: on a public data set in FewCLUE's form."""

import gzip
import json
from pathlib import Path

import pytest

from tests.eval_tasks.made_results import Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.board_verify import Known, verify
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.record import _shortest
from zhiling.eval_tasks.results import WITHHELD, read_run
from zhiling.eval_tasks.run import score
from zhiling.store import read_json, write_json

LABELS = {"positive": "Positive", "negative": "Negative"}


def write_public(folder: Path, train: Rows, test: Rows) -> str:
    """Reviews as FewCLUE's EPRSTMT has them."""
    home = folder / "fewclue" / "eprstmt"
    home.mkdir(parents=True)
    for name, rows in (("train_few_all", train), ("test_public", test)):
        lines = [json.dumps({"sentence": r["text"], "label": LABELS[r["label"]]}) for r in rows]
        (home / f"{name}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def data(reviews: Rows, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_public(tmp_path_factory.mktemp("data"), reviews[100:500], reviews[:40] + reviews[-40:])


@pytest.fixture(scope="module")
def settings(data: str) -> EvalSettings:
    return EvalSettings(
        data=data, packs=["fewclue/eprstmt"], templates=["cloze", "question"], shots=[0, 2], limit=12, prompts=False,
        compress=True,
    )


@pytest.fixture(scope="module")
def scored(model: Path, settings: EvalSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return score(str(model), settings, tmp_path_factory.mktemp("results"))


def test_samples_hold_no_text_and_every_score_can_be_computed_again(scored: Path, data: str, reviews: Rows) -> None:
    texts = b"".join(gzip.decompress(p.read_bytes()) for p in scored.glob("samples_*.jsonl.gz")).decode()
    assert len(list(scored.glob("samples_*.jsonl.gz"))) == 4 and not list(scored.glob("*.jsonl"))
    assert not any(r["text"][:12] in texts for r in reviews)
    run = read_run(scored)
    assert len(run.samples) == 48 and run.samples[0].shown_prompt == WITHHELD
    assert verify(scored) == [] and verify(scored, Known(data=data)) == []
    assert data not in (scored / "manifest.json").read_text(encoding="utf-8")


def test_prompts_are_held_against_ones_own_copy(scored: Path, tmp_path: Path, reviews: Rows) -> None:
    other = write_public(tmp_path, reviews[100:500], reviews[:30] + reviews[-50:])
    assert any("its documents are not the first 12 of" in line for line in verify(scored, Known(data=other)))


def test_verify_says_where_prompts_were_not_looked_at(
    scored: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_args(["leaderboard", "verify", str(scored)]) == 0
    assert "every score agrees with its samples, which hold no prompts" in capsys.readouterr().out
    assert run_args(["leaderboard", "verify", str(scored), "--data", data]) == 0
    assert capsys.readouterr().out.endswith("every score agrees with its samples\n")


def test_a_score_raised_in_packed_samples_is_found(scored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in scored.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (results,) = folder.glob("results_*.json")
    told = read_json(results)
    told["results"]["fewclue_eprstmt_cloze_2shot"]["acc,none"] = 0.99
    write_json(results, told)
    assert any("acc is given as 0.99, from the samples it is 0." in line for line in verify(folder))


def test_a_packed_file_cut_short_is_refused_in_one_line(scored: Path, tmp_path: Path) -> None:
    for path in scored.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = sorted(tmp_path.glob("samples_*"))[0]
    first.write_bytes(first.read_bytes()[:-40])
    (line,) = verify(tmp_path)
    assert first.name in line and "not a sample" in line and "run the evaluation again" in line


@pytest.mark.parametrize("baseline", ["majority", "linear"])
def test_baselines_learn_from_the_public_train_file(
    baseline: str, settings: EvalSettings, scored: Path, tmp_path: Path
) -> None:
    run = read_run(score(f"baseline:{baseline}", settings, tmp_path))
    asked = read_run(scored).of(template="cloze", shots=0)
    assert [s.source_id for s in run.samples] == [s.source_id for s in asked]
    assert {(s.pack, s.template) for s in run.samples} == {("fewclue/eprstmt", "row")}
    if baseline == "linear":
        assert run.results["results"]["fewclue_eprstmt_row"]["acc,none"] > 0.6


def test_log_probabilities_are_written_short_and_the_same() -> None:
    import numpy as np

    for value in (-12.345678329467773, -0.1, -3.0, -1.0000001192092896):
        short = _shortest(value)
        assert len(repr(short)) <= len(repr(value))
        assert short == value or np.float32(short) == np.float32(value)
    assert _shortest(-0.1) == -0.1  # no single-precision number: kept
