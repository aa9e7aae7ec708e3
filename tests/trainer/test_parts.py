"""Parts of a micro-batch: the same sum and, whatever the number of workers, the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from zhiling.trainer.batches import Drawn
from zhiling.trainer.data import encode_examples, read_examples, write_rows
from zhiling.trainer.loss import on_device, token_loss
from zhiling.trainer.parts import PARTS, SMALL, add_gradients, can_part, parts


@pytest.mark.parametrize("bf16", [False, True])
def test_workers_do_not_change_a_bit_and_parts_add_up_to_the_whole(
    model: Any, release: Path, tokenizer: Any, tmp_path: Path, bf16: bool
) -> None:
    table = read_examples(release, "train").slice(0, 40)
    rows = write_rows(tmp_path / "rows", encode_examples(table, tokenizer, 1024, whole=False), len(tokenizer))
    (micro,) = Drawn(rows, 40, seed=5, pad=0, average="token").batch(0, 100_000)
    assert micro.tokens >= SMALL and can_part(model)
    cut = parts(micro)
    assert len(cut) == PARTS and sum(part.tokens for part in cut) == micro.tokens

    def found(micros: list[Any], workers: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        shares = [on_device(m, torch.device("cpu")) for m in micros]
        total = add_gradients(model, lambda share: token_loss(model, share), shares, workers, bf16)
        return total, [p.grad for p in model.parameters()]

    one, two, two_again = found(cut * 3, 1), found(cut * 3, 2), found(cut * 3, 2)
    plainly = backward(model, cut * 3, bf16)  # as where there is one core
    for other in (two, two_again, plainly):
        assert torch.equal(one[0], other[0])
        assert all(map(torch.equal, one[1], other[1]))
    if not bf16:
        torch.testing.assert_close(found(cut, 2), found([micro], 1), rtol=1e-4, atol=1e-6)


def backward(model: Any, micros: list[Any], bf16: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for micro in micros:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = token_loss(model, on_device(micro, torch.device("cpu")))
        loss.backward()
        total += loss.detach()
    return total, [p.grad for p in model.parameters()]


def test_a_small_micro_batch_stays_whole(release: Path, tokenizer: Any, tmp_path: Path) -> None:
    table = read_examples(release, "train").slice(0, 4)
    rows = write_rows(tmp_path / "rows", encode_examples(table, tokenizer, 100, whole=False), len(tokenizer))
    (micro,) = Drawn(rows, 4, seed=5, pad=0, average="token").batch(0, 100_000)
    assert micro.tokens < SMALL and parts(micro) == [micro]
