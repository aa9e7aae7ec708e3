"""Batches are a pure function of seed and step; every row once an epoch; weights sum to one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.trainer.batches import ROUND, Drawn, Hidden, Packed, Row, cut, deal
from zhiling.trainer.data import Encoded, Rows, encode_texts, read_texts, write_rows
from zhiling.trainer.labelled import Labelled, encode_labelled
from zhiling.trainer.tokenizer import load_tokenizer


@pytest.fixture
def rows(release: Path, tokenizer: Any, tmp_path: Path) -> Rows:
    return write_rows(tmp_path / "rows", encode_texts(list(read_texts(release, "train")), tokenizer), len(tokenizer))


def test_the_same_step_gives_the_same_batch_in_any_order_of_asking(rows: Rows) -> None:
    asked = Drawn(rows, 8, seed=3, pad=0, average="token")
    forwards = [asked.batch(step, 512) for step in range(40)]
    backwards = [Drawn(rows, 8, seed=3, pad=0, average="token").batch(step, 512) for step in reversed(range(40))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert [m.rows for m in one] == [m.rows for m in other]
        assert all((a.ids == b.ids).all() and (a.at == b.at).all() for a, b in zip(one, other, strict=True))


def test_an_epoch_holds_every_row_once_and_the_next_another_order(rows: Rows) -> None:
    drawn = Drawn(rows, 7, seed=3, pad=0, average="example")
    count = drawn.steps_per_epoch
    epochs = [
        [name for step in range(e * count, (e + 1) * count) for m in drawn.batch(step, 600) for name in m.rows]
        for e in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(rows.ids)
    assert epochs[0] != epochs[1]


def test_some_tokens_are_hidden_in_training_others_each_epoch_and_none_on_validation(
    release: Path, bert: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(bert)
    rows = [Labelled(key, text, "a") for key, text in read_texts(release, "train")]
    made = write_rows(tmp_path / "rows", encode_labelled(rows, tokenizer, 256, ["a"], "sequence"), len(tokenizer))
    plain = Drawn(made, 8, seed=3, pad=0, average="example")
    hidden = Hidden(made, 8, 3, 0, "example", 0.2, tokenizer)
    again = Hidden(made, 8, 3, 0, "example", 0.2, tokenizer)

    def gone(step: int) -> dict[str, list[int]]:
        """Where each row's tokens are hidden; all else is as it was."""
        found = {}
        for own, whole in zip(hidden.drawn(step), plain.drawn(step), strict=True):
            changed = own.tokens != whole.tokens
            assert (own.tokens[changed] == tokenizer.mask_token_id).all()
            assert not np.isin(whole.tokens[changed], tokenizer.all_special_ids).any()
            assert own.names == whole.names and (own.places == whole.places).all()
            assert (own.wanted(own.places) == whole.wanted(whole.places)).all()
            found[own.names[0]] = np.flatnonzero(changed).tolist()
        return found

    count = plain.steps_per_epoch
    first, second = ({key: own for i in range(count) for key, own in gone(e * count + i).items()} for e in (0, 1))
    assert sum(map(len, first.values())) / made.counts["tokens"] == pytest.approx(0.2, abs=0.03)
    assert first.keys() == second.keys() and sum(first[key] != second[key] for key in first) > 0.9 * len(first)
    assert all((a.ids == b.ids).all() for a, b in zip(hidden.batch(5, 512), again.batch(5, 512), strict=True))
    some = range(len(made))
    assert all((a.ids == b.ids).all() for a, b in zip(hidden.some(some, 512), plain.some(some, 512), strict=True))


def test_a_packed_epoch_is_every_document_whole_in_a_row(rows: Rows, tokenizer: Any) -> None:
    packed = Packed(rows, context=64, batch_tokens=256, seed=3, end=tokenizer.eos_token_id)
    targets = np.concatenate([m.targets for s in range(packed.steps_per_epoch) for m in packed.batch(s, 256)])
    assert len(targets) == int(rows.starts[-1])
    assert sorted(targets.tolist()) == sorted(rows.tokens.tolist())
    documents = {tuple(rows.row(i)[0].tolist()) for i in range(len(rows))}
    parted, document = set(), []
    blocks = [b for s in range(packed.steps_per_epoch) for b in by_block(packed, s)]
    for token in np.concatenate(blocks).tolist():
        document.append(token)
        if token == tokenizer.eos_token_id:
            parted.add(tuple(document))
            document = []
    assert parted == documents


def by_block(packed: Packed, step: int) -> list[Any]:
    """The targets of a step's blocks in the order of the text."""
    first = (step % packed.steps_per_epoch) * packed.blocks_per_batch
    last = min(packed.blocks, first + packed.blocks_per_batch)
    return [packed._rows(step // packed.steps_per_epoch, b)[0].tokens[1:] for b in range(first, last)]


LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=12)


@given(lengths=LENGTHS, micro=st.integers(40, 200), average=st.sampled_from(["token", "example"]))
def test_weights_of_a_batch_sum_to_one_however_it_is_cut(lengths: list[int], micro: int, average: Any) -> None:
    rows = [Row(np.arange(n), np.arange(n) >= n // 2, (str(i),)) for i, n in enumerate(lengths)]
    micros = cut(rows, micro, 0, average)
    assert sum(float(m.weights.sum()) for m in micros) == pytest.approx(1, abs=1e-5)
    assert sum(m.tokens for m in micros) == sum(n - 1 for n in lengths)
    assert all(m.tokens <= micro for m in micros) and all(len(m.ids) % ROUND == 0 for m in micros)
    assert sorted(name for m in micros for name in m.rows) == sorted(map(str, range(len(lengths))))


@given(lengths=LENGTHS, ways=st.integers(1, 5))
def test_rows_are_dealt_out_evenly(lengths: list[int], ways: int) -> None:
    hands = deal(lengths, ways)
    assert sorted(row for hand in hands for row in hand) == list(range(len(lengths)))
    tokens = [sum(lengths[row] for row in hand) for hand in hands]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert all(hands) or len(lengths) < ways


def test_a_row_without_learned_tokens_is_named(tmp_path: Path) -> None:
    from zhiling.errors import UserError

    with pytest.raises(UserError, match="row abc: no token of it is learned; give it a completion"):
        write_rows(tmp_path / "rows", iter([Encoded("abc", [1, 2, 3], 3)]), 10)
