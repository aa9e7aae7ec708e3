"""What a model was trained on is compared with what it is asked: exact rows, runs of 13, nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.eval_tasks.board_read import read_field
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.contamination import find_lineage, mark, pieces
from zhiling.eval_tasks.models import find_subject
from zhiling.eval_tasks.results import read_run
from zhiling.eval_tasks.run import evaluate
from zhiling.store import MANIFEST, file_digest, write_manifest

ModelMaker = Callable[..., Path]


@pytest.fixture
def trained(model: Path, release: Path, tmp_path: Path) -> ModelMaker:
    """Makes a model whose manifest says that it was trained on the release."""

    def made(splits: tuple[str, ...] = ("train", "validation"), folder: str = "m", **changes: Any) -> Path:
        about = json.loads((release / MANIFEST).read_text())
        told = {"name": about["name"], "version": about["version"], "splits": splits,
                "manifest_sha256": file_digest(release / MANIFEST), **changes}
        copy = Path(shutil.copytree(model, tmp_path / folder))
        (copy / MANIFEST).write_text(json.dumps({"kind": "model", "name": "reviews", "releases": [told]}))
        return copy

    return made


@pytest.fixture
def results(model: Path, release: Path, tmp_path: Path) -> Path:
    settings = EvalSettings(templates=["cloze"], limit=60)
    return evaluate(str(model), release, settings, tmp_path / "results")


@pytest.fixture
def leaking(release: Path, results: Path, tmp_path: Path) -> Path:
    """The release with three more train rows: a test text in other typography, 13 characters of one, 12 of one."""
    folder = Path(shutil.copytree(release, tmp_path / "leaking"))
    ids = {s.source_id for s in read_run(results).samples}
    rows = pq.read_table(next((release / "corpus").rglob("test-*.parquet"))).to_pylist()
    long = [t for t in (only_letters(r["text"]) for r in rows if r["id"] in ids) if len(t) > 40]
    path = next((folder / "corpus").rglob("train-*.parquet"))
    train = pq.read_table(path)
    planted = ["  ".join(long[0]) + "！", "甲乙丙" + long[1][20:33] + "丁", "甲乙丙" + long[2][20:32] + "丁"]
    more = train.slice(0, 3).set_column(train.schema.get_field_index("text"), "text", [planted])
    pq.write_table(pa.concat_tables([train, more.cast(train.schema)]), path)
    about = json.loads((folder / MANIFEST).read_text())
    write_manifest(folder, "release", {k: v for k, v in about.items() if k not in ("kind", "files")})
    return folder


def only_letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def test_a_text_counts_where_thirteen_characters_of_it_stand_in_train(
    trained: ModelMaker, results: Path, release: Path, leaking: Path
) -> None:
    clean = mark(results, find_lineage(find_subject(str(trained())), [release]), release)
    model = trained(folder="leaky", manifest_sha256=file_digest(leaking / MANIFEST))
    leaky = mark(results, find_lineage(find_subject(str(model)), [leaking]), release)
    assert clean.keys() == leaky.keys() == {"zh_sentiment_cloze_0shot", "zh_sentiment_cloze_2shot"}
    for task, counts in leaky.items():
        assert counts == {"contaminated": clean[task]["contaminated"] + 2, "documents": 60}
    tallies = read_field([results]).tallies.values()
    assert {t.seen for t in tallies} == {(c["contaminated"], 60) for c in leaky.values()}


def test_a_model_that_saw_the_test_split_is_marked_on_every_text(
    trained: ModelMaker, results: Path, release: Path
) -> None:
    lineage = find_lineage(find_subject(str(trained(("test",)))), [release])
    assert mark(results, lineage, release)["zh_sentiment_cloze_2shot"] == {"contaminated": 60, "documents": 60}
    about = json.loads((results / MANIFEST).read_text())
    assert about["contamination"]["against"][0]["splits"] == ["test"]
    assert mark(results, lineage, release) == {n: t["contamination"] for n, t in about["tasks"].items()}


def test_exemplars_are_from_train_and_do_not_count(trained: ModelMaker, results: Path, release: Path) -> None:
    marks = mark(results, find_lineage(find_subject(str(trained())), [release]))
    without, behind_two = (marks[f"zh_sentiment_cloze_{n}shot"]["contaminated"] for n in (0, 2))
    assert without == behind_two < 60


def test_width_case_and_punctuation_do_not_hide_a_text() -> None:
    shown, hidden = "房间很干净，早餐ABC也不错，下次还来！", "房间 很干净。早餐ａｂｃ也不错……下次还来"
    assert pieces((shown,), unspaced=True) == pieces((hidden,), unspaced=True)
    words = "The room was clean, the staff were kind and the breakfast was very good"
    assert len(pieces((words,), unspaced=False)) == 2
    assert pieces((words.upper(),), unspaced=False) == pieces((words,), unspaced=False)


def test_a_short_row_matches_only_as_a_whole() -> None:
    assert pieces(("很好", "不错"), unspaced=True) == {"=很好\n不错"}
    assert pieces(("很好",), unspaced=True).isdisjoint(pieces(("很好很好很好很好很好很好很好",), unspaced=True))
    assert pieces(("！", ""), unspaced=True) == set()


def test_a_release_beside_the_model_is_found(trained: ModelMaker, release: Path, tmp_path: Path) -> None:
    about = json.loads((release / MANIFEST).read_text())
    home = tmp_path / "out" / about["name"]
    shutil.copytree(release, home / about["version"])
    copy = trained(folder=f"out/{about['name']}/{about['version']}-1a2b/models/m")
    assert [t.folder for t in find_lineage(find_subject(str(copy)))] == [home.resolve() / about["version"]]


def test_what_cannot_be_compared_is_refused(
    trained: ModelMaker, model: Path, release: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="nothing says what it was trained on"):
        find_lineage(find_subject(str(model)), [release])
    with pytest.raises(UserError, match="nothing says what it was trained on"):
        find_lineage(find_subject("baseline:linear"), [release])
    with pytest.raises(UserError, match="not here with that digest; give its folder with --trained-on FOLDER"):
        find_lineage(find_subject(str(trained(manifest_sha256="0" * 64, folder="other"))), [release])
    with pytest.raises(UserError, match="a release without name, version and digest"):
        find_lineage(find_subject(str(trained(version=1, folder="odd"))), [release])
    changed = Path(shutil.copytree(release, tmp_path / "changed"))
    next((changed / "corpus").rglob("train-*.parquet")).write_bytes(b"")
    with pytest.raises(UserError, match="changed since it was built"):
        find_lineage(find_subject(str(trained())), [changed])


def test_the_command_prints_the_marks(
    trained: ModelMaker, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(trained(("test",))), "-r", str(release), "--templates", "cloze", "--shots", "0", "--limit", "5"]
    asked += ["--check-contamination", "-o", str(tmp_path / "out")]  # trained on the release that it is asked
    assert run_args(["-q", "eval", *asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["contamination"]
    assert said == {"zh_sentiment_cloze_0shot": {"contaminated": 5, "documents": 5}}
    assert run_args(["-q", "eval", *asked]) == 0
    assert "5/5" in capsys.readouterr().out
