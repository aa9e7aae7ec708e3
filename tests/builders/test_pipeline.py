"""A build end to end on real reviews: the same bytes whatever the workers, kills and order; honest books."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders import corpus, pipeline, release_files, stages
from zhiling.builders.pipeline import build
from zhiling.builders.release import verify
from zhiling.errors import UserError
from zhiling.rows import EXAMPLE_SCHEMA, SPLITS
from zhiling.seeds import shuffled
from zhiling.store import files_below, read_json


def rows(release: Path, split: str, config: str = "data") -> list[dict[str, Any]]:
    return [r for p in sorted((release / config).glob(f"{split}-*.parquet")) for r in pq.read_table(p).to_pylist()]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, reviews: list[dict[str, str]]) -> Path:
    """A release of 600 reviews, a conflicting pair and a broken line."""
    make = RecipeMaker(tmp_path_factory.mktemp("release"))
    conflict = [{"text": "一般般吧", "label": "positive"}, {"text": "一般 般吧", "label": "negative"}]
    make.corpus([*reviews, *conflict, "{broken"])
    return build(make.recipe(), make.folder / "out")


def test_load_dataset_opens_it_with_three_splits_and_the_corpus(release: Path) -> None:
    from datasets import load_dataset

    data = load_dataset(str(release))
    assert set(data) == set(SPLITS)
    assert data["train"].column_names == EXAMPLE_SCHEMA.names
    texts = load_dataset(str(release), "corpus-reviews")
    assert set(texts) == set(SPLITS)


def test_it_verifies_and_every_changed_byte_is_named(release: Path, tmp_path: Path) -> None:
    assert verify(release) == []
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    with (copy / "rejects.jsonl").open("a") as f:
        f.write(" ")
    assert verify(copy) == ["rejects.jsonl: changed"]


def test_the_ledger_adds_up_and_every_reject_is_there_with_its_reason(release: Path) -> None:
    manifest = read_json(release / "manifest.json")
    ledger = manifest["ledger"]["reviews"]
    rejects = [json.loads(line) for line in (release / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    counted = Counter(f"{r['step']}: {r['reason']}" for r in rejects)
    assert counted == ledger["rejects"]
    assert ledger["rows_in_sources"] == 603
    assert ledger["rows_in_sources"] - ledger["rows_read"] == counted["read: malformed"] == 1
    assert ledger["rows_read"] - ledger["rows_kept"] == counted["clean: duplicate"] + counted["clean: label_conflict"]
    assert counted["clean: label_conflict"] == 2
    kept = sum(len(rows(release, s, "corpus/reviews")) for s in SPLITS)
    assert kept == ledger["rows_kept"]
    made = sum(split["rows"] for split in manifest["splits"].values())
    assert made == ledger["renderings_made"] == sum(len(rows(release, s)) for s in SPLITS)
    broken = next(r for r in rejects if r["reason"] == "malformed")
    assert broken["source"] == "reviews.jsonl:603"


def test_no_group_stands_on_two_sides_and_exemplars_come_from_train(release: Path) -> None:
    groups = {s: {r["group_id"] for r in rows(release, s)} for s in SPLITS}
    assert not groups["train"] & groups["test"]
    assert not groups["validation"] & (groups["train"] | groups["test"])
    train = {r["id"]: r for r in rows(release, "train", "corpus/reviews")}
    shown = [r for s in SPLITS for r in rows(release, s) if r["shots"]]
    assert shown and all(len(r["exemplar_ids"]) == r["shots"] for r in shown)
    assert {e for r in shown for e in r["exemplar_ids"]} <= train.keys()
    assert all(r["source_id"] not in r["exemplar_ids"] for r in shown)


def test_a_few_shot_prompt_holds_its_exemplars_texts_and_then_the_row(release: Path) -> None:
    train = {r["id"]: r["text"] for r in rows(release, "train", "corpus/reviews")}
    zero = {(r["source_id"], r["template"]): r["prompt"] for r in rows(release, "test") if not r["shots"]}
    for row in rows(release, "test"):
        if row["shots"] and row["template"] == "question":
            places = [row["prompt"].index(train[e]) for e in row["exemplar_ids"]]
            assert places == sorted(places)
            assert row["prompt"].endswith("\n\n" + zero[row["source_id"], row["template"]])


def test_every_template_meets_the_same_held_out_rows_in_the_same_order(release: Path) -> None:
    by_template: dict[tuple[str, int], list[str]] = {}
    for row in rows(release, "test"):
        by_template.setdefault((row["template"], row["shots"]), []).append(row["source_id"])
    assert len(by_template) == 2 * len({t for t, _ in by_template})
    assert len({tuple(ids) for ids in by_template.values()}) == 1


def test_workers_and_line_order_do_not_change_a_byte_of_the_rows(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_files, "FILE_ROWS", 300)
    make.corpus(reviews)
    one = build(make.recipe(), tmp_path / "one", workers=1)
    two = build(make.recipe(), tmp_path / "two", workers=2)
    assert files_below(one) == files_below(two)
    assert len(list((one / "data").glob("train-*.parquet"))) > 2
    make.corpus(shuffled(reviews, 1, "test", "lines"))
    moved = build(make.recipe(), tmp_path / "moved")
    for split in SPLITS:
        plain = [[{k: v for k, v in r.items() if k != "source"} for r in rows(f, split)] for f in (one, moved)]
        assert plain[0] == plain[1]


def test_parts_that_are_rendered_together_do_not_change_a_byte_of_the_rows(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.corpus(reviews)
    plain = {"render": {"templates_per_row": 2, "shots": {0: 1.0}}, "clean": {"near_duplicates": None}}
    whole = build(make.recipe(**plain), tmp_path / "whole")
    monkeypatch.setattr(corpus, "BATCH_ROWS", 50)
    monkeypatch.setattr(stages, "FEW", 4)  # 12 parts, three at a time
    parts = build(make.recipe(**plain), tmp_path / "parts")
    assert files_below(parts / "data") == files_below(whole / "data")
    assert files_below(parts / "corpus") == files_below(whole / "corpus")


def test_workers_leave_the_parent_of_a_plain_build_without_pandas(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    """Which takes as long to import as a hundred thousand rows to judge."""
    conflict = [{"text": "一般般吧", "label": "positive"}, {"text": "一般 般吧", "label": "negative"}]
    make.corpus([*reviews[:90], *conflict])
    make.corpus([*reviews[90:180], *reviews[:9]], "more.jsonl")
    of = {"pack": "zh/sentiment", "license": "MIT"}
    recipe = make.recipe(
        corpora=[{"name": name, "files": [{"path": f"{name}.jsonl"}], **of} for name in ("reviews", "more")],
        render={"templates_per_row": 2, "shots": {0: 1.0}}, clean={"near_duplicates": None},
    )
    code = (
        "import sys; from pathlib import Path; from zhiling.builders.pipeline import build\n"
        "if __name__ == '__main__': build(*map(Path, sys.argv[1:]), workers=2); print('pandas' in sys.modules)"
    )
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, str(tmp_path / "run.py"), str(recipe), str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_corpus_that_grows_moves_no_old_row(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    make.corpus(reviews[:400])
    small = build(make.recipe(), tmp_path / "small")
    make.corpus(reviews)
    grown = build(make.recipe(), tmp_path / "grown")
    sides = [{r["group_id"]: s for s in SPLITS for r in rows(f, s)} for f in (small, grown)]
    assert sides[0].items() <= sides[1].items()


def test_rows_of_a_previous_release_keep_their_side_and_a_tie_between_sides_is_rejected(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    letters = [chr(0x4E00 + i) for i in range(90)]
    here, far = ("".join(letters[i : i + 60]) for i in (0, 8))
    bridge = "".join(letters[4:64])
    ends = [{"text": text, "label": "positive"} for text in (here, far)]
    sides: dict[str, str] = {}
    for seed in range(20):  # until the two ends fall on two sides
        make.corpus([*reviews[:100], *ends])
        old = build(make.recipe(seed=seed), tmp_path / f"old{seed}")
        sides = {r["text"]: s for s in SPLITS for r in rows(old, s, "corpus/reviews")}
        if sides[here] != sides[far]:
            break
    make.corpus([*reviews[:300], *ends, {"text": bridge, "label": "positive"}])
    split = {"previous": str(old), "train": 0.2, "validation": 0.4, "test": 0.4}
    new = build(make.recipe(seed=99, split=split), tmp_path / "new")
    found = {r["text"]: s for s in SPLITS for r in rows(new, s, "corpus/reviews")}
    assert sides.items() <= found.items()
    rejects = [json.loads(line) for line in (new / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["row"]["text"] for r in rejects if r["reason"] == "ties_two_sides"] == [bridge]
    mended = [{**r, "label": {"positive": "negative", "negative": "positive"}[r["label"]]} for r in reviews[:100]]
    make.corpus([*mended, *ends])  # with other labels, and so with other ids
    again = build(make.recipe(seed=99, split=split), tmp_path / "again")
    found = {r["text"]: s for s in SPLITS for r in rows(again, s, "corpus/reviews")}
    assert len(found) > 50 and found.items() <= sides.items()
    with pytest.raises(UserError, match=r"recipe\.yaml:\d+: split\.previous: .*no manifest\.json in it"):
        build(make.recipe(split={"previous": str(tmp_path)}), tmp_path / "none")


def test_a_sources_own_split_is_kept_and_its_test_texts_leave_train(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:150], "train.jsonl")
    make.corpus([*reviews[150:250], *reviews[:5]], "test.jsonl")
    files = [{"path": "train.jsonl", "split": "train"}, {"path": "test.jsonl", "split": "test"}]
    release = build(make.recipe(corpus={"files": files}), tmp_path / "out")
    test = {r["source"].split(":")[0] for r in rows(release, "test", "corpus/reviews")}
    train = {r["source"].split(":")[0] for r in rows(release, "train", "corpus/reviews")}
    assert (test, train) == ({"test.jsonl"}, {"train.jsonl"})
    ledger = read_json(release / "manifest.json")["ledger"]["reviews"]["rejects"]
    assert ledger["clean: stands_in_another_split"] >= 5


def test_a_second_build_keeps_the_first_and_other_settings_are_refused(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:100])
    folder = build(make.recipe(), tmp_path)
    made = (folder / "manifest.json").stat().st_mtime_ns
    assert build(make.recipe(), tmp_path) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == made
    with pytest.raises(UserError, match=r"this version exists, made from other settings .*; raise `version`"):
        build(make.recipe(seed=8), tmp_path)


def test_a_version_folder_that_is_no_release_is_not_touched(make: RecipeMaker, tmp_path: Path) -> None:
    make.corpus([{"text": "好", "label": "positive"}])
    mine = tmp_path / "out" / "tiny" / "1.0.0" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"no manifest\.json in it"):
        build(make.recipe(), tmp_path / "out")
    assert mine.read_text() == "mine"


def test_what_is_rejected_on_reading_is_told_by_reason(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus([*reviews[:30], "{", {"text": "短", "label": "positive"}])
    build(make.recipe(corpus={"where": "length(text) > 2"}), tmp_path / "out")
    said = "reviews: 2 rows put in rejects.jsonl (1 read: malformed, 1 screen: where)"
    assert said in capsys.readouterr().err.splitlines()


def test_a_place_where_no_folder_can_be_made_is_one_line(make: RecipeMaker, tmp_path: Path) -> None:
    make.corpus([{"text": "好", "label": "positive"}])
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"tiny: cannot be made \(Not a directory\); build into another place"):
        build(make.recipe(), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        ([], {}, "reviews.jsonl: no row can be read (nothing on the line)"),
        (["{", "["], {}, "reviews.jsonl: no row can be read (not valid JSON"),
        (
            [{"text": ["好"], "label": "positive"}], {},
            "recipe.yaml:7: corpora[0]: corpus 'reviews' has no usable row (reviews.jsonl:1: 'text' is a list",
        ),
        (
            [{"text": "好", "label": "positive"}], {"render": {"shots": {900: 1}}},
            "recipe.yaml: not one example is left (2 render: refused); see its `render:` and `mixture:`",
        ),
        ([{"text": "好", "label": "positive"}], {"corpus": {"together": "user"}}, "reviews.jsonl:1: no column 'user'"),
        ([{"text": "好", "label": "positive"}], {"corpus": {"time": "day"}}, "reviews.jsonl:1: no column 'day'"),
        ([{"text": "好", "label": "positive"}], {"corpus": {"split_column": "x"}}, "reviews.jsonl:1: no column 'x'"),
        ([{"text": "好", "label": "positive"}], {"corpus": {"pack": "zh/sentimnet"}}, "did you mean 'zh/sentiment'?"),
        ([{"text": "好", "label": "positive"}], {"corpus": {"templates": ["clozee"]}}, "did you mean 'cloze'?"),
        ([{"text": "好", "label": "positive"}], {"corpus": {"columns": {"txt": "text"}}}, "has no column 'txt'"),
        ([{"text": "好", "label": "positive"}], {"corpus": {"casts": {"tex": "json"}}}, "casts.tex: pack zh/se"),
        ([{"text": "好", "label": "positive"}], {"version": "01.0.0"}, "recipe.yaml:2: version: found '01.0.0'; Str"),
        ([{"text": "好", "label": "positive"}], {"rendr": {}}, "recipe.yaml:17: rendr: unknown key; did you mean 'ren"),
        ([{"text": "好", "label": "bad"}], {}, "reviews.jsonl:1: unknown label 'bad' in 'label'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_release(
    make: RecipeMaker, tmp_path: Path, content: list[Any], changes: dict[str, Any], expected: str
) -> None:
    make.corpus(content)
    with pytest.raises(UserError) as error:
        build(make.recipe(**changes), tmp_path / "out")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "tiny" / "1.0.0").exists()


def test_rows_that_a_template_refuses_are_rejected_and_the_build_goes_on(make: RecipeMaker, tmp_path: Path) -> None:
    good = [{"text": f"第{i}条，还可以", "label": "positive"} for i in range(30)]
    make.corpus(good)
    release = build(make.recipe(render={"shots": {0: 0.5, 50: 0.5}}), tmp_path / "out")
    rejects = [json.loads(line) for line in (release / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {r["reason"] for r in rejects} == {"refused"}
    assert "exemplars where 50 are asked for" in rejects[0]["detail"]
    assert rows(release, "train")


BUILD = "import sys; from pathlib import Path; from zhiling.builders.pipeline import build\n" \
    "if __name__ == '__main__': build(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))"


def test_work_from_before_the_machine_was_started_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards are not forced to the disk, so one may be there by name only after the power failed."""
    work, boot = tmp_path / "work", tmp_path / "boot_id"
    monkeypatch.setattr(pipeline, "BOOT", boot)
    boot.write_text("one")
    pipeline.begin(work)
    (work / "shard").write_text("done")
    pipeline.begin(work)
    assert (work / "shard").exists()
    boot.write_text("another")
    pipeline.begin(work)
    assert not (work / "shard").exists()



@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_goes_on_to_the_same_bytes(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, workers: int
) -> None:
    make.corpus(reviews)
    calm = build(make.recipe(), tmp_path / "calm")
    command = [sys.executable, "-c", BUILD, str(make.recipe()), str(tmp_path / "hit"), str(workers)]
    for seconds in (0.7, 1.1, 1.5):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        if process.poll() is None:
            import os

            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    hit = build(make.recipe(), tmp_path / "hit", workers)
    assert files_below(hit) == files_below(calm)
    assert [p.name for p in hit.parent.iterdir()] == ["1.0.0"]
