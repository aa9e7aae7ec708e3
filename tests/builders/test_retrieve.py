"""Passages beside a question: the gold one at a drawn, recorded rank; company that answers nothing; rows without it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.explain import explain
from zhiling.builders.pipeline import build
from zhiling.builders.rebuild import rebuild
from zhiling.errors import UserError
from zhiling.store import read_manifest

THINGS = ["雨伞", "台灯", "水壶", "书包", "耳机", "键盘", "毛毯", "风扇", "饭盒", "手表", "相机", "球鞋"]
WISHES = {"退货": "{0}签收后{1}天之内可以退货。", "保修": "{0}的保修期是{1}个月。", "发货": "{0}在下单后{1}小时发货。"}
THIRDS = {"train": 0.4, "validation": 0.3, "test": 0.3}
NOTHING = "抱歉，没有查到，我为您转人工。"


@pytest.fixture
def shop(make: RecipeMaker) -> RecipeMaker:
    """A shop's knowledge base of 36 passages, and a question and answer on each of them."""
    passages, rows = [], []
    for n, thing in enumerate(THINGS):
        for wish, says in WISHES.items():
            text = says.format(thing, n * 3 + len(passages))
            passages.append({"id": f"faq-{len(passages)}", "text": text})
            rows.append({"question": f"{thing}怎么{wish}？", "answer": f"您好，{text}", "faq": f"faq-{len(rows)}"})
    make.corpus(passages, "faq.jsonl")
    make.corpus(rows)
    return make


def service(**retrieve: Any) -> dict[str, Any]:
    return {"pack": "zh/service_dialogue", "columns": {"passages": "faq"},
            "retrieve": {"passages": "faq.jsonl", "answer": "answer", **retrieve}}


def rows_of(release: Path) -> list[dict[str, Any]]:
    files = sorted((release / "corpus" / "reviews").glob("*.parquet"))
    return sorted((row for f in files for row in pq.read_table(f).to_pylist()), key=lambda r: r["id"])


def listed(release: Path) -> dict[str, dict[str, Any]]:
    lines = (release / "review" / "passages.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_a_rebuild_finds_the_same_passages(shop: RecipeMaker, tmp_path: Path) -> None:
    release = build(shop.recipe(corpus=service(count=3)), tmp_path / "out")
    assert rebuild(release, shop.folder) == []
    faq = shop.folder / "faq.jsonl"
    faq.write_text("".join(faq.read_text("utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert any(line.startswith("corpus/reviews/") for line in rebuild(release, shop.folder))


def test_the_gold_passage_stands_at_its_recorded_rank(shop: RecipeMaker, tmp_path: Path) -> None:
    release = build(shop.recipe(corpus=service(count=4)), tmp_path / "out")
    ranks = listed(release)
    for row in rows_of(release):
        (rank,) = ranks[row["id"]]["gold"]
        assert row["answer"] == f"您好，{row['passages'][rank - 1]}"
        assert len(row["passages"]) == len(set(row["passages"])) == 4
        thing = row["question"][:2]
        near = [text for text in row["passages"] if text.startswith(thing)]
        if row["split"] != "train":
            assert len(near) == 3  # the company is what BM25 finds nearest
    assert set(Counter(r["gold"][0] for r in ranks.values())) == {1, 2, 3, 4}
    assert read_manifest(release, "release")["corpora"]["reviews"]["passages"]


def test_no_train_row_is_shown_what_a_held_out_row_is_about(shop: RecipeMaker, tmp_path: Path) -> None:
    corpus = {**service(count=4, without_gold=0.2), "together": "faq"}
    rows = rows_of(build(shop.recipe(corpus=corpus, split=THIRDS), tmp_path / "out"))
    held_out = {row["answer"].removeprefix("您好，") for row in rows if row["split"] != "train"} - {""}
    assert len(held_out) > 12
    train, others = ([row for row in rows if (row["split"] == "train") is side] for side in (True, False))
    assert not held_out & {text for row in train for text in row["passages"]}
    assert {text for row in others for text in row["passages"]} - held_out  # these see the whole knowledge base


def test_rows_without_their_gold_passage_say_so(shop: RecipeMaker, tmp_path: Path) -> None:
    corpus = service(without_gold=0.4, unanswered=NOTHING)
    release = build(shop.recipe(corpus=corpus), tmp_path / "out")
    marks, rows = listed(release), rows_of(release)
    without = [row for row in rows if marks[row["id"]]["left_out"]]
    assert 5 < len(without) < 25
    gold = {r["question"]: r["answer"].removeprefix("您好，") for r in map(json.loads, shop_rows(shop))}
    for row in rows:
        left_out = row in without
        assert (row["answer"] == NOTHING) is left_out
        assert (gold[row["question"]] not in row["passages"]) is left_out
        assert (marks[row["id"]]["gold"] == []) is left_out


def shop_rows(shop: RecipeMaker) -> list[str]:
    return (shop.folder / "reviews.jsonl").read_text("utf-8").splitlines()


def test_a_passage_that_holds_the_answer_is_never_company(make: RecipeMaker, tmp_path: Path) -> None:
    gold, other = "台灯的保修期是 18 个月", "本店台灯，18个月保修"
    make.corpus([*(f"台灯有货 {n} 台" for n in range(5)), gold, other], "notes.txt")
    make.corpus([{"question": f"台灯保修多久呢{n}", "answer": "18个月", "passages": gold} for n in range(9)])
    corpus = {"pack": "zh/retrieved_qa",
              "retrieve": {"passages": "notes.txt", "answer": "answer", "sources": "sources", "count": 5}}
    for row in rows_of(build(make.recipe(corpus=corpus), tmp_path / "out")):
        (rank,) = json.loads(row["sources"])
        assert row["passages"][rank - 1] == gold
        assert other not in row["passages"]


def test_train_rows_own_passages_serve_where_no_file_is_named(make: RecipeMaker, tmp_path: Path) -> None:
    texts = [says.format(thing, n) for n, thing in enumerate(THINGS) for says in WISHES.values()]
    make.corpus([{"question": f"问一下：{t[:4]}？", "answer": t[-4:-1], "passages": [t]} for t in texts])
    corpus = {"pack": "zh/retrieved_qa", "retrieve": {"sources": "sources"}}
    release = build(make.recipe(corpus=corpus, split={"train": 0.6, "validation": 0.1, "test": 0.3}), tmp_path / "out")
    marks, rows = listed(release), rows_of(release)
    gold = {row["id"]: row["passages"][marks[row["id"]]["gold"][0] - 1] for row in rows}
    train = {gold[row["id"]] for row in rows if row["split"] == "train"}
    assert len(train) < len(texts)
    for row in rows:
        assert set(row["passages"]) - {gold[row["id"]]} <= train


def test_the_same_bytes_from_two_workers_and_a_shuffled_file(shop: RecipeMaker, tmp_path: Path) -> None:
    render = {"shots": {0: 0.5, 2: 0.5}, "exemplars": "nearest"}
    changes: dict[str, Any] = {"corpus": service(without_gold=0.2), "render": render}
    one = build(shop.recipe(**changes), tmp_path / "one")
    lines = (shop.folder / "faq.jsonl").read_text("utf-8").splitlines()
    (shop.folder / "faq.jsonl").write_text("\n".join(lines[::-1]), encoding="utf-8")
    two = build(shop.recipe(**changes), tmp_path / "two", workers=2)
    for path in [*one.glob("data/*.parquet"), *one.glob("corpus/*/*.parquet"), one / "review" / "passages.jsonl"]:
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_a_row_that_names_no_passage_is_rejected_and_one_without_any_keeps_its_answer(
    shop: RecipeMaker, tmp_path: Path
) -> None:
    wrong = {"question": "雨伞是什么颜色？", "answer": "红色", "faq": "faq-99"}
    free = {"question": "今天几点关门，雨伞还能退货吗？", "answer": "六点"}
    shop.corpus([*map(json.loads, shop_rows(shop)), wrong, free])
    release = build(shop.recipe(corpus=service(without_gold=1.0, unanswered=NOTHING)), tmp_path / "out")
    (reject,) = [r for r in map(json.loads, (release / "rejects.jsonl").read_text("utf-8").splitlines())
                 if r["step"] == "retrieve"]
    assert (reject["reason"], reject["detail"]) == ("no_passage", "no passage 'faq-99'")
    ledger = read_manifest(release, "release")["ledger"]["reviews"]
    assert ledger["rows_kept"] - ledger["rows_filled"] == 1
    (row,) = [row for row in rows_of(release) if row["question"] == free["question"]]
    assert row["answer"] == "六点" and len(row["passages"]) == 3


def test_numbers_name_passages_too(shop: RecipeMaker, tmp_path: Path) -> None:
    number = {f"faq-{n}": n for n in range(len(shop_rows(shop)))}
    passages = [json.loads(line) for line in (shop.folder / "faq.jsonl").read_text("utf-8").splitlines()]
    shop.corpus([{**row, "id": number[row["id"]]} for row in passages], "faq.jsonl")
    rows = [json.loads(row) for row in shop_rows(shop)]
    named = [{**r, "faq": number[r["faq"]] if n % 2 else [number[r["faq"]]]} for n, r in enumerate(rows)]
    shop.corpus(named)
    ranks = listed(build(shop.recipe(corpus=service()), tmp_path / "out"))
    assert len(ranks) == len(rows) and all(len(row["gold"]) == 1 for row in ranks.values())


def test_explain_tells_where_the_gold_passage_stands(shop: RecipeMaker, tmp_path: Path) -> None:
    release = build(shop.recipe(corpus=service()), tmp_path / "out")
    example = pq.read_table(next(release.glob("data/train-*.parquet"))).to_pylist()[0]
    found = explain(release, example["id"])
    assert found.same_bytes
    assert found.passages == listed(release)[example["source_id"]]
    assert "'gold rank'" in found.draws["gold rank"]


@pytest.mark.parametrize(
    ("corpus", "complaint"),
    [
        (service(passages="nowhere.jsonl"), r"nowhere.jsonl: no such file; check the path"),
        (service(query="ask"), r"recipe.yaml:\d+: .*query: pack zh/service_dialogue has no string column 'ask'"),
        (service(sources="answer"), r"pack zh/service_dialogue has no json column 'answer'; its json columns: none"),
        (service(answer=None, without_gold=0.1), r"`without_gold` needs `answer`"),
        (service(passages="broken.jsonl"), r"broken.jsonl:2: a line without `text`; write"),
        (service(passages="twice.jsonl"), r"twice.jsonl: two passages have the id '1'; give each its own"),
        (service(passages="empty.txt"), r"empty.txt: no passage in it; give one a line"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    shop: RecipeMaker, tmp_path: Path, corpus: dict[str, Any], complaint: str
) -> None:
    shop.corpus([{"text": "好"}, {"id": 3}], "broken.jsonl")
    shop.corpus([{"id": 1, "text": "好"}, {"id": 1, "text": "坏"}], "twice.jsonl")
    (shop.folder / "empty.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        build(shop.recipe(corpus=corpus), tmp_path / "out")
    assert not (tmp_path / "out" / "tiny" / "1.0.0").exists()
