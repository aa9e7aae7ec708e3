"""Parts of a micro-batch: the same sum and, whatever the number of workers, the same bits."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from zhiling.trainer.batches import Drawn, Micro
from zhiling.trainer.data import Rows, encode_examples, read_examples, write_rows
from zhiling.trainer.heads import load_classifier, sequence_loss
from zhiling.trainer.labelled import encode_labelled, read_labelled, the_pack
from zhiling.trainer.loss import Loss, on_device, token_loss
from zhiling.trainer.parts import ALIKE, PARTS, SMALL, add_gradients, can_part, parts

from .test_heads import settings


@pytest.fixture
def rows(release: Path, tokenizer: Any, tmp_path: Path) -> Rows:
    table = read_examples(release, "train").slice(0, 40)
    return write_rows(tmp_path / "rows", encode_examples(table, tokenizer, 1024, whole=False), len(tokenizer))


@pytest.fixture
def headed(release: Path, encoder: Path, tokenizer: Any, tmp_path: Path) -> tuple[Any, Rows]:
    """An encoder under a new head, and the texts that it is to label."""
    names, pack = ["negative", "positive"], the_pack(release, "sequence", None)
    texts = read_labelled(release, "train", pack, "sequence", settings(shots_per_class=40).finetune, 42, "\n")
    encoded = encode_labelled(texts, tokenizer, 256, names, "sequence")
    model = load_classifier(encoder, "sequence", tokenizer, names, 1)
    return model, write_rows(tmp_path / "texts", encoded, len(tokenizer))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["decoder", "head"])
def test_workers_do_not_change_a_bit_and_parts_add_up_to_the_whole(
    request: pytest.FixtureRequest, model: Any, rows: Rows, kind: str, bf16: bool
) -> None:
    loss: Loss = token_loss
    if kind == "head":
        (model, rows), loss = request.getfixturevalue("headed"), sequence_loss
    (micro,) = Drawn(rows, 80, seed=5, pad=0, average="token").batch(0, 100_000)
    assert micro.tokens >= SMALL and can_part(model)
    cut = parts(micro, plain=True)
    assert len(cut) == PARTS and sum(part.tokens for part in cut) == micro.tokens

    def found(micros: list[Micro], workers: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        shares = [on_device(m, torch.device("cpu")) for m in micros]
        total = add_gradients(model, lambda share: loss(model, share), shares, workers, bf16)
        return total, [p.grad for p in model.parameters()]

    one, two, two_again = found(cut * 3, 1), found(cut * 3, 2), found(cut * 3, 2)
    plainly = backward(model, loss, cut * 3, bf16)  # as where there is one core
    for other in (two, two_again, plainly):
        assert torch.equal(one[0], other[0])
        assert all(map(torch.equal, one[1], other[1]))
    if not bf16:
        torch.testing.assert_close(found(cut, 2), found([micro], 1), rtol=1e-4, atol=1e-6)


def backward(model: Any, loss: Loss, micros: list[Micro], bf16: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for micro in micros:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            part = loss(model, on_device(micro, torch.device("cpu")))
        part.backward()
        total += part.detach()
    return total, [p.grad for p in model.parameters()]


def test_a_small_micro_batch_stays_whole(rows: Rows) -> None:
    (micro,) = Drawn(rows, 40, seed=5, pad=0, average="token").some([0, 1], 100_000)
    assert micro.tokens < SMALL and parts(micro, plain=True) == [micro]


def test_rows_that_will_be_padded_come_with_rows_of_like_length(model: Any, rows: Rows) -> None:
    (micro,) = Drawn(rows, 40, seed=5, pad=0, average="token").batch(0, 100_000)
    cut = parts(micro, plain=False)
    lengths = [[b - a for a, b in pairwise(part.starts)] for part in cut]
    assert len(cut) > 1 and [n for own in lengths for n in own] == [b - a for a, b in pairwise(micro.starts)]
    assert all(min(own) >= ALIKE * max(own) for own in lengths)
    whole, alike = (backward(model, token_loss, micros, False) for micros in ([micro], cut))
    torch.testing.assert_close(whole, alike, rtol=1e-4, atol=1e-6)


def test_a_model_that_draws_dropout_is_not_worked_on_at_once(encoder: Path, tokenizer: Any) -> None:
    model = load_classifier(encoder, "sequence", tokenizer, ["a", "b"], 1)
    assert can_part(model)
    model.drop.p = 0.1
    assert not can_part(model)
