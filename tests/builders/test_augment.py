"""Copies of train rows keep label, group and side; what must stay stays; what is no copy is rejected."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.augment import _move_spans, _moved, _pieces
from zhiling.builders.augmenters import Part, keyed_augmenter, must_stay, turned, words
from zhiling.builders.pipeline import build
from zhiling.errors import UserError
from zhiling.store import read_manifest
from zhiling.templates.pack import load_pack

METHODS = [{"kind": "synonym", "rows": 0.8, "words": 0.3}, {"kind": "homophone", "rows": 0.3}, {"kind": "typo"}]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning", "ignore::UserWarning")


def corpus_rows(release: Path, corpus: str = "reviews") -> list[dict[str, Any]]:
    return [r for f in sorted((release / "corpus" / corpus).glob("*.parquet")) for r in pq.read_table(f).to_pylist()]


@pytest.fixture
def release(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> Path:
    make.corpus(reviews[:60] + reviews[-60:])
    return build(make.recipe(augment={"methods": METHODS}), tmp_path / "out")


def test_copies_stand_in_train_beside_their_parents(release: Path) -> None:
    rows = corpus_rows(release)
    by_id = {row["id"]: row for row in rows}
    copies = [row for row in rows if row["parent_id"]]
    assert len(copies) > 40
    for copy in copies:
        parent = by_id[copy["parent_id"]]
        assert copy["split"] == parent["split"] == "train"
        assert (copy["label"], copy["group_id"]) == (parent["label"], parent["group_id"])
        assert copy["text"] != parent["text"]
        assert copy["augmentation"].startswith(("synonym: ", "homophone: ", "typo: "))
        assert [c for c in copy["text"] if c.isdigit()] == [c for c in parent["text"] if c.isdigit()]
        assert all(copy["text"].count(word) == parent["text"].count(word) for word in ("不", "没", "正面", "负面"))


def test_exemplars_and_held_out_rows_are_never_copies(release: Path) -> None:
    copies = {row["id"] for row in corpus_rows(release) if row["parent_id"]}
    examples = [r for f in (release / "data").glob("*.parquet") for r in pq.read_table(f).to_pylist()]
    assert copies & {row["source_id"] for row in examples}
    assert not copies & {name for row in examples for name in row["exemplar_ids"]}


def test_the_release_says_what_it_did(release: Path) -> None:
    about = read_manifest(release, "release")
    found, ledger = about["augmentation"]["reviews"], about["ledger"]["reviews"]
    assert found["copies"] == ledger["rows_with_copies"] - ledger["rows_kept"]
    assert found["agreement"] > 0.8
    assert found["distinct_2_before"] > found["distinct_2_after"] > 0


def test_the_same_recipe_makes_the_same_copies(
    release: Path, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(list(reversed(reviews[:60] + reviews[-60:])))
    again = build(make.recipe(augment={"methods": METHODS}), tmp_path / "again", workers=2)
    assert {(r["id"], r["text"]) for r in corpus_rows(again)} == {(r["id"], r["text"]) for r in corpus_rows(release)}


def test_spans_are_moved_and_answers_kept(make: RecipeMaker, tmp_path: Path) -> None:
    pack = "zh/reading_extractive"
    examples = load_pack(pack).examples
    make.corpus([dict(row) for row in examples])
    release = build(
        make.recipe(
            corpus={"pack": pack}, split={"train": 1, "validation": 0, "test": 0}, render={"templates_per_row": 1},
            augment={"methods": [{"kind": "synonym", "rows": 1.0, "words": 1.0}]},
        ),
        tmp_path / "out",
    )
    copies = [row for row in corpus_rows(release) if row["parent_id"]]
    assert copies
    for row in copies:
        for name, value in row.items():
            for span in value if isinstance(value, list) and value and isinstance(value[0], dict) else []:
                texts = [v for v in row.values() if isinstance(v, str)]
                assert any(text.startswith(span["text"], span["start"]) for text in texts), (name, span)


def test_what_cannot_be_said_otherwise_is_rejected(make: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": f"{n}{n + 1}", "label": label} for n in range(10, 40) for label in ("positive",)]
    make.corpus([*rows, {"text": "100分", "label": "negative"}])
    everything = {"train": 1, "validation": 0, "test": 0}
    recipe = make.recipe(split=everything, render={}, augment={"methods": [{"kind": "synonym", "rows": 1.0}]})
    release = build(recipe, tmp_path / "out")
    found = [json.loads(line) for line in (release / "rejects.jsonl").read_text("utf-8").splitlines()]
    assert {r["reason"] for r in found if r["step"] == "augment"} == {"unchanged"}


def test_numbers_and_negations_must_stay() -> None:
    assert all(map(must_stay, ["不好", "没", "3", "十二", "两百斤", "三个", "第一次"]))
    assert all(map(must_stay, ["don't", "Never", "can’t", "cannot", "Ten"]))
    assert not any(map(must_stay, ["漂亮", "nothing's", "非常"[1:], "note", "tender"]))
    assert words("It doesn't, ‘no’", "en") == ["It", " ", "doesn't", ",", " ", "‘", "no", "’"]


@pytest.mark.parametrize(("before", "after", "why"), [
    ("300元，不贵", "不算贵，才300元", None), ("300元", "30元", "a number is gone or new"),
    ("一点也不贵", "便宜得很", "a negation is gone or new"),
])
def test_what_was_translated_whole_keeps_numbers_and_negations(before: str, after: str, why: str | None) -> None:
    assert turned(before, after, "zh") == why


def test_spans_of_a_text_that_was_said_anew_are_found_again() -> None:
    before, after = "张三和李四在找张三", "在找张三的有李四和张三"
    spans = [{"start": at, "text": text, "label": "人"} for at, text in ((0, "张三"), (3, "李四"), (7, "张三"))]
    copy = {"text": after, "spans": spans}
    _move_spans(copy, {"text": "string", "spans": "spans"}, before, after, [Part(before, after)])
    assert [s["start"] for s in copy["spans"]] == [2, 6, 9]


def test_a_column_that_a_copy_leaves_as_it_is_does_not_refuse_it(make: RecipeMaker, tmp_path: Path) -> None:
    passage = "石板桥建于清代，由镇上的米商出资修建，桥面用了第{}块青石。"
    make.corpus([{"context": passage.format(n), "question": "谁？", "answers": ["米商"]} for n in range(20)])
    recipe = make.recipe(
        corpus={"pack": "zh/reading_extractive"}, clean={"near_duplicates": None},
        augment={"methods": [{"kind": "typo", "rows": 1.0}]},
    )
    rows = corpus_rows(build(recipe, tmp_path / "out"))
    assert any(row["split"] == "test" for row in rows)  # where the question stands, too
    assert len([row for row in rows if row["parent_id"]]) == len([row for row in rows if row["split"] == "train"]) / 2


def test_two_texts_without_a_common_letter_have_no_agreement(make: RecipeMaker, tmp_path: Path) -> None:
    make.corpus([{"text": "天地玄黄", "label": "positive"}, {"text": "宇宙洪荒", "label": "negative"}])
    everything = {"train": 1, "validation": 0, "test": 0}
    recipe = make.recipe(split=everything, augment={"methods": [{"kind": "typo", "rows": 1.0}]})
    assert read_manifest(build(recipe, tmp_path / "out"), "release")["augmentation"]["reviews"]["agreement"] is None


def test_pieces_are_the_text_and_hold_what_is_protected() -> None:
    pieces = _pieces("小明在北京大学读书，北京很大。", ["北京大学", "小明"], "zh")
    assert "".join(text for text, _ in pieces) == "小明在北京大学读书，北京很大。"
    assert ("北京大学", True) in pieces and ("小明", True) in pieces


def test_a_place_moves_with_what_stands_before_it() -> None:
    parts = [Part("很", "非常"), Part("好", "好"), Part("的店", "店")]
    assert [_moved(i, parts) for i in (0, 1, 2)] == [0, 2, 3]


def test_nlpaugs_own_door_works_too() -> None:
    augmenter = keyed_augmenter("synonym", "zh", 1.0, 7)
    text = "这家饭店的服务员态度很热情，房间也宽敞。"
    found = augmenter.augment(text)
    assert found and found[0] != text
    assert "".join(words(text, "zh")) == text


def test_english_synonyms_say_how_to_get_wordnet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"WordNet's data is not there; run `python -m nltk.downloader wordnet` once"):
        keyed_augmenter("synonym", "en", 0.2, 7)


def test_keyboard_slips_are_one_key_away() -> None:
    augmenter = keyed_augmenter("keyboard", "en", 1.0, 7)
    parts = augmenter.augment_keyed([("wonderful", False), (" ", False), ("film", True)], "row")
    assert parts[0].after != "wonderful" and len(parts[0].after) == len("wonderful")
    assert parts[2].after == "film"


def test_back_translation_needs_its_models(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    methods = [{"kind": "back_translation", "models": ["there", "back"]}]
    with pytest.raises(UserError, match=r"there: no config.json with safetensors in it"):
        build(make.recipe(augment={"methods": methods}), tmp_path / "out")
