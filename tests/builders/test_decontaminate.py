"""Train rows that hold what an evaluation asks are found on the source fields, dropped or listed; others stay."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.errors import UserError

Rows = list[dict[str, str]]


def rejected(release: Path) -> list[dict[str, object]]:
    lines = (release / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["step"] == "decontaminate"]


def train_texts(release: Path) -> set[str]:
    files = (release / "corpus" / "reviews").glob("train-*.parquet")
    return {row["text"] for f in files for row in pq.read_table(f).to_pylist()}


@pytest.fixture
def asked(make: RecipeMaker, reviews: Rows, tmp_path: Path) -> list[str]:
    """An evaluation file that holds parts of some reviews, in other widths, and one short review whole."""
    make.corpus([*reviews[:100], *reviews[-100:], {"text": "很好！！", "label": "positive"}])
    plain = build(make.recipe(version="0.9.0"), tmp_path / "out")
    long = sorted(t for t in train_texts(plain) if len(t) > 40)[:5]
    lines = [f"……{text[5:30].replace('，', ',')}？" for text in long] + ["很 好"]
    rows = [json.dumps({"sentence": text, "label": 1}, ensure_ascii=False) for text in lines]
    (tmp_path / "evaluation.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return long


SETTINGS = {"against": [{"file": "evaluation.jsonl"}]}


def test_what_an_evaluation_asks_is_dropped_and_named(make: RecipeMaker, asked: list[str], tmp_path: Path) -> None:
    release = build(make.recipe(decontaminate=SETTINGS), tmp_path / "out")
    assert set(asked).isdisjoint(train_texts(release))
    found = rejected(release)
    assert {r["row"]["text"] for r in found} >= set(asked)  # type: ignore[index]
    assert all("with evaluation.jsonl" in str(r["detail"]) for r in found)
    listed = [json.loads(x) for x in (release / "review" / "contamination.jsonl").read_text("utf-8").splitlines()]
    assert {row["text"] for row in listed} >= set(asked)
    assert all(len(row["their_text"]) >= 3 for row in listed)
    ledger = json.loads((release / "manifest.json").read_text())["ledger"]["reviews"]
    assert ledger["rows_split"] - ledger["rows_kept"] == len(found)


def test_flagged_rows_stay(
    make: RecipeMaker, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = build(make.recipe(decontaminate={**SETTINGS, "action": "flag"}), tmp_path / "out")
    assert " train rows share text with an evaluation and are kept (contamination.jsonl)" in capsys.readouterr().err
    assert set(asked) <= train_texts(release)
    assert rejected(release) == []
    assert (release / "review" / "contamination.jsonl").read_text("utf-8").count("\n") >= len(asked)


def test_a_short_text_counts_only_where_both_are_equal(make: RecipeMaker, reviews: Rows, tmp_path: Path) -> None:
    rows = [{"text": f"第{n}次来，很好", "label": "positive"} for n in range(40)]
    make.corpus([*rows, *reviews[-40:]])
    (tmp_path / "evaluation.jsonl").write_text('{"q": "很好"}\n{"q": "第7次来,很好!"}\n', encoding="utf-8")
    everything = {"train": 1, "validation": 0, "test": 0}
    release = build(make.recipe(decontaminate=SETTINGS, split=everything), tmp_path / "out")
    assert [r["row"] for r in rejected(release)] == [{"text": "第7次来，很好", "label": "positive"}]


def test_words_of_the_template_are_never_counted(make: RecipeMaker, reviews: Rows, tmp_path: Path) -> None:
    make.corpus(reviews[:60] + reviews[-60:])
    asks = "请阅读下面的评论，判断它表达的情感。这条评论的情感是正面还是负面？"
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"q": asks}) + "\n", encoding="utf-8")
    assert rejected(build(make.recipe(decontaminate=SETTINGS), tmp_path / "out")) == []


def test_another_release_may_be_the_evaluation(make: RecipeMaker, reviews: Rows, tmp_path: Path) -> None:
    make.corpus(reviews[:60] + reviews[-60:])
    first = build(make.recipe(), tmp_path / "out")
    held_out = {r["text"] for f in (first / "corpus" / "reviews").glob("test-*") for r in pq.read_table(f).to_pylist()}
    everything = {"name": "all", "split": {"train": 1, "validation": 0, "test": 0}}
    against = {"against": [{"release": "out/tiny/1.0.0"}]}
    second = build(make.recipe(**everything, decontaminate=against), tmp_path / "out")
    assert held_out and held_out.isdisjoint(train_texts(second))


def test_an_absent_evaluation_is_one_clear_line(make: RecipeMaker, reviews: Rows, tmp_path: Path) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    with pytest.raises(UserError, match=r"evaluation.jsonl: no such file; check the path"):
        build(make.recipe(decontaminate=SETTINGS), tmp_path / "out")


def test_plain_lines_and_tab_separated_ones_are_texts_too(make: RecipeMaker, asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "evaluation.txt").write_text(f"{asked[0][3:30]}\t1\n", encoding="utf-8")
    (tmp_path / "evaluation.tsv").write_text(f"7\t{asked[1][3:30]}\n", encoding="utf-8")
    files = [{"file": "evaluation.txt"}, {"file": "evaluation.tsv"}]
    release = build(make.recipe(decontaminate={"against": files}), tmp_path / "out")
    assert set(asked[:2]).isdisjoint(train_texts(release)) and set(asked[2:]) <= train_texts(release)


def test_a_column_that_the_evaluation_does_not_have_stops_the_build(
    make: RecipeMaker, reviews: Rows, asked: list[str], tmp_path: Path
) -> None:
    against = [{"file": "evaluation.jsonl", "columns": ["sentense"]}]
    with pytest.raises(UserError, match=r"evaluation.jsonl: no column 'sentense'; did you mean 'sentence'\?"):
        build(make.recipe(decontaminate={"against": against}), tmp_path / "out")


def test_a_longer_text_around_a_held_out_one_goes_from_the_corpora_named(
    make: RecipeMaker, reviews: Rows, tmp_path: Path
) -> None:
    short = [row for row in reviews if 30 < len(row["text"]) < 60]
    short = short[:100] + short[-100:]
    make.corpus(short)
    around = "去年冬天我们一家人{}以上就是全部经过，仅供各位参考，谢谢大家。"
    make.corpus([{**row, "text": around.format(row["text"]) * 2} for row in short], "whole.jsonl")
    parts, whole = (
        {"name": name, "pack": "zh/sentiment", "license": "MIT", "files": [{"path": f"{file}.jsonl", **side}]}
        for name, file, side in (("parts", "reviews", {}), ("reviews", "whole", {"split": "train"}))
    )
    guard = {"against": [{"held_out": "parts"}], "corpora": ["reviews"]}
    release = build(make.recipe(corpora=[parts, whole], decontaminate=guard), tmp_path / "out")
    rows = [row for f in (release / "corpus" / "parts").glob("*") for row in pq.read_table(f).to_pylist()]
    held_out = [row["text"] for row in rows if row["split"] != "train"]
    shown = [row["text"] for row in rows if row["split"] == "train"]
    left = train_texts(release)
    assert len(held_out) > 20 and not any(text in whole for text in held_out for whole in left)
    assert sum(any(text in whole for whole in left) for text in shown) > 0.9 * len(shown)
    found = rejected(release)
    assert {r["corpus"] for r in found} == {"reviews"} and len(found) >= len(held_out)
    assert all("with held-out rows of parts" in str(r["detail"]) for r in found)


@pytest.mark.parametrize(
    ("guard", "error"),
    [
        ({"against": [{"held_out": "review"}]}, r"against\[0\].held_out: no corpus 'review'; did you mean 'reviews'\?"),
        ({"against": [{"held_out": "reviews"}], "corpora": ["shops"]}, r"corpora\[0\]: no corpus 'shops'; known: rev"),
        ({"against": [{"held_out": "reviews", "task": "a"}]}, "give one of `file`, `release`, `task` and `held_out`"),
    ],
)
def test_a_corpus_that_is_not_there_is_named(
    make: RecipeMaker, reviews: Rows, tmp_path: Path, guard: dict[str, object], error: str
) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    with pytest.raises(UserError, match=error):
        build(make.recipe(decontaminate=guard), tmp_path / "out")


def test_what_many_rows_share_beside_their_text_gives_nothing_away(make: RecipeMaker, tmp_path: Path) -> None:
    """Names of types and relations, short answers, the keys of JSON and the ids of passages are no text of a row."""
    towns = [f"{a}{b}镇" for a in "东西南北上下前后" for b in "山河湖桥林石泉沙"]
    make.corpus([
        {"text": f"{town}有{n + 100}人。", "relations": ["所在地", "人口数量"],
         "triples": [{"subject": town, "predicate": "人口数量", "object": f"{n + 100}"}]}
        for n, town in enumerate(towns)
    ], "towns.jsonl")
    make.corpus([
        {"question": f"{town}在哪个州？", "answer": f"{town[1]}州市。", "faq": f"handbook-of-the-towns-{n}"}
        for n, town in enumerate(towns)
    ], "asked.jsonl")
    passages = [{"id": f"handbook-of-the-towns-{n}", "text": f"{t}位于{t[1]}州市。"} for n, t in enumerate(towns)]
    make.corpus(passages, "faq.jsonl")
    corpora = [
        {"name": "towns", "pack": "zh/relations", "license": "MIT", "files": [{"path": "towns.jsonl"}]},
        {"name": "asked", "pack": "zh/service_dialogue", "license": "MIT", "files": [{"path": "asked.jsonl"}],
         "columns": {"passages": "faq"}, "retrieve": {"passages": "faq.jsonl"}},
    ]
    guard = {"against": [{"held_out": "towns"}, {"held_out": "asked"}]}
    recipe = make.recipe(corpora=corpora, decontaminate=guard, clean={"near_duplicates": None}, render={})
    assert rejected(build(recipe, tmp_path / "out")) == []


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("evaluation.jsonl", b"\n\n", r"evaluation.jsonl: no text in it; check that it is the evaluation that you me"),
        ("evaluation.csv", b"text,label\n", r"evaluation.csv:1: not valid JSON; mend the line, or give JSONL, Parquet"),
        ("evaluation.txt", "很好".encode("gb18030"), r"evaluation.txt: not UTF-8 text; give JSONL, Parquet, .txt or"),
        ("evaluation.parquet", b"PAR1", r"evaluation.parquet: cannot be read \(.*\); give JSONL, Parquet"),
    ],
)
def test_an_evaluation_that_cannot_be_read_stops_the_build(
    make: RecipeMaker, reviews: Rows, tmp_path: Path, name: str, content: bytes, error: str
) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=error):
        build(make.recipe(decontaminate={"against": [{"file": name}]}), tmp_path / "out")
