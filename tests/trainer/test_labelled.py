"""Texts and spans as labels: one label a text, BIO by offsets, the middle cut and the label kept."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import UserError
from zhiling.templates.pack import load_pack
from zhiling.trainer.config import FinetuneSettings
from zhiling.trainer.labelled import (
    Labelled,
    bio,
    encode_labelled,
    label_names,
    read_labelled,
    spans_of,
    the_pack,
)
from zhiling.trainer.model import load_pair

PLACES = [(0, 1), (1, 3), (3, 3), (3, 4), (4, 5), (5, 6)]  # the third token is no text


def test_each_token_is_labelled_by_its_place() -> None:
    assert bio(PLACES, [(1, 4, "人名"), (4, 5, "地名")]) == ["O", "B-人名", "O", "I-人名", "B-地名", "O"]


def test_a_token_over_a_spans_edge_belongs_to_it_and_neighbours_stay_apart() -> None:
    assert bio([(0, 2), (2, 4), (4, 6)], [(1, 3, "人名"), (4, 6, "人名")]) == ["B-人名", "I-人名", "B-人名"]


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.sampled_from(["人", "地"])), max_size=12))
def test_spans_of_characters_come_back(pieces: list[tuple[int, bool, str]]) -> None:
    spans, at = [], 0
    for length, named, label in pieces:
        if named:
            spans.append((at, at + length, label))
        at += length
    places = [(i, i + 1) for i in range(at)]
    assert spans_of(places, bio(places, spans)) == spans


def test_bytes_of_one_character_are_one_piece_of_a_span() -> None:
    """A rare character is several tokens at one place; the first one's label is the character's."""
    places = [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]
    assert spans_of(places, ["O", "B-人", "B-人", "O", "I-人"]) == [(1, 3, "人")]
    assert spans_of([(0, 2), (1, 3)], ["B-人", "B-地"]) == [(0, 2, "人"), (2, 3, "地")]


def test_no_span_reaches_over_the_cut() -> None:
    assert spans_of([(0, 1), (0, 0), (90, 91)], ["B-人", "O", "I-人"]) == [(0, 1, "人"), (90, 91, "人")]


def test_a_row_of_a_release_is_one_text_whatever_its_templates(release: Path) -> None:
    pack = the_pack(release, "sequence", None)
    rows = read_labelled(release, "train", pack, "sequence", FinetuneSettings(), 1, "\n")
    assert len({row.id for row in rows}) == len(rows) > 100 and {row.label for row in rows} == {"positive", "negative"}
    assert label_names(pack, "sequence", rows) == list(pack.labels_of("label"))


def test_few_texts_of_each_class_and_a_draw_of_validation(release: Path) -> None:
    pack = the_pack(release, "sequence", ["zh/sentiment"])
    own = FinetuneSettings(shots_per_class=4, validation_rows=5)
    rows = read_labelled(release, "train", pack, "sequence", own, 1, "\n")
    assert sorted(row.label for row in rows) == ["negative"] * 4 + ["positive"] * 4
    assert len(read_labelled(release, "validation", pack, "sequence", own, 1, "\n")) == 5


@pytest.mark.parametrize(
    ("head", "packs", "error"),
    [
        ("token", None, r"a token head learns one pack with spans, here are 0 \(none\); name one with finetune\.packs"),
        ("sequence", ["zh/sentimen"], r"zh/sentimen: no pack here whose label a sequence head can learn; did you mean"),
    ],
)
def test_packs_that_a_head_cannot_learn_are_named(release: Path, head: Any, packs: Any, error: str) -> None:
    with pytest.raises(UserError, match=error):
        the_pack(release, head, packs)


def test_a_long_text_loses_its_middle_and_never_its_label(bert: Path) -> None:
    _, tokenizer = load_pair(bert)
    rows = [Labelled("a", "开头" + "很好" * 100 + "结尾", "b")]
    (found,) = encode_labelled(rows, tokenizer, 32, ["a", "b"], "sequence")
    assert not isinstance(found, dict) and found.targets is not None and not isinstance(found.learned, int)
    assert len(found.tokens) == len(found.targets) == 32 and found.learned[0] and found.targets[0] == 1
    read = tokenizer.decode(found.tokens).replace(" ", "")
    assert read.startswith("[CLS]开头") and read.endswith("结尾[SEP]") and read.count("[SEP]") == 2  # one marks the cut


def test_what_stands_around_a_text_and_the_cut_have_no_label(bert: Path) -> None:
    _, tokenizer = load_pair(bert)
    row = Labelled("a", "李明" + "很好" * 30, spans=((0, 2, "人名"),))
    (found,) = encode_labelled([row], tokenizer, 20, ["O", "B-人名", "I-人名"], "token")
    assert not isinstance(found, dict) and found.targets is not None and not isinstance(found.learned, int)
    assert list(found.targets[:4]) == [0, 1, 2, 0]
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    assert [t in special for t in found.tokens] == [not flag for flag in found.learned]


def test_a_text_is_read_as_any_pipeline_reads_it(bert: Path, pretrained: Path) -> None:
    for folder in (bert, pretrained):
        _, tokenizer = load_pair(folder)
        (found,) = encode_labelled([Labelled("a", "这家酒店很好 ok", "x")], tokenizer, 64, ["x"], "sequence")
        assert not isinstance(found, dict)
        assert list(found.tokens) == tokenizer("这家酒店很好 ok")["input_ids"]


def test_a_label_that_training_never_saw_is_refused_by_name(bert: Path) -> None:
    _, tokenizer = load_pair(bert)
    rows = [Labelled("a", "很好", "new"), Labelled("b", "", "old")]
    assert list(encode_labelled(rows, tokenizer, 32, ["old"], "sequence")) == [
        {"id": "a", "reason": "label 'new' is not among those learned"}, {"id": "b", "reason": "no text"},
    ]


def test_labels_of_spans_are_those_in_train() -> None:
    rows = [Labelled("a", "李明在北京", spans=((0, 2, "人名"), (3, 5, "地名")))]
    assert label_names(load_pack("zh/entities"), "token", rows) == ["O", "B-人名", "I-人名", "B-地名", "I-地名"]
