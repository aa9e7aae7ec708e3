"""What `plan` says is what the build then holds, row for row."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders import engines
from zhiling.builders.engines import Shard, Work, run_shard
from zhiling.builders.forecast import forecast
from zhiling.builders.pipeline import build
from zhiling.cli import run_args


def test_the_counts_are_those_of_the_release_which_goes_on_from_there(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.corpus(reviews[:60] + reviews[-60:])
    recipe = make.recipe(mixture={"cap": 50})
    before = forecast(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "tiny" / "1.0.0").exists()
    done: list[str] = []

    def told(work: Work, shard: Shard) -> None:
        done.append(work.__name__)
        run_shard(work, shard)

    monkeypatch.setattr(engines, "run_shard", told)
    release = build(recipe, tmp_path / "out")
    assert set(done) == {"place_rows", "write_file"}
    found: Counter[tuple[str, int, str]] = Counter()
    for split in ("train", "validation", "test"):
        for file in (release / "data").glob(f"{split}-*.parquet"):
            found.update((r["template"], r["shots"], split) for r in pq.read_table(file).to_pylist())
    assert sum(row.train for row in before) == 50
    for row in before:
        for split in ("train", "validation", "test"):
            assert getattr(row, split) == found[row.template, row.shots, split]
    assert forecast(recipe, tmp_path / "out") == before


def test_it_is_printed_as_a_table(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus(reviews[:30] + reviews[-30:])
    assert run_args(["plan", str(make.recipe()), "-o", str(tmp_path / "out"), "-w", "1"]) == 0
    shown = capsys.readouterr().out
    assert "either_or" in shown and "all" in shown
