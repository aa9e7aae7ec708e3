"""Losses equal an unpadded forward of transformers on the same weights, row by row, and their gradients too."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from zhiling.trainer.batches import Average, Drawn, Micro, Packed, Row, cut
from zhiling.trainer.data import Rows, encode_examples, encode_texts, read_examples, read_texts, write_rows
from zhiling.trainer.loss import on_device, token_loss, weighted_cross_entropy

CPU = torch.device("cpu")


@pytest.fixture
def rows(release: Path, tokenizer: Any, tmp_path: Path) -> Rows:
    encoded = encode_examples(read_examples(release, "train").slice(0, 24), tokenizer, 256, whole=False)
    return write_rows(tmp_path / "rows", encoded, len(tokenizer))


def reference(model: Any, rows: Rows, i: int) -> torch.Tensor:
    """The library's own loss of one row: alone, unpadded, labels -100 on the prompt."""
    tokens, learned = (torch.from_numpy(part.astype("int64"))[None] for part in rows.row(i))
    labels: torch.Tensor = torch.where(learned.bool(), tokens, -100)
    loss: torch.Tensor = model(input_ids=tokens, labels=labels).loss
    return loss


def some(rows: Rows, members: Iterable[int], micro_tokens: int, average: Average) -> list[Micro]:
    return Drawn(rows, 8, seed=1, pad=0, average=average).some(list(members), micro_tokens)


def ours(model: Any, micros: list[Micro]) -> torch.Tensor:
    return torch.stack([token_loss(model, on_device(micro, CPU)) for micro in micros]).sum()


def test_each_row_alone_has_the_librarys_loss(model: Any, rows: Rows) -> None:
    for i in range(len(rows)):
        mine = ours(model, some(rows, [i], 256, "token"))
        torch.testing.assert_close(mine, reference(model, rows, i), atol=1e-5, rtol=0)


@pytest.mark.parametrize("micro_tokens", [256, 1024, 100_000])
def test_rows_padded_together_have_the_mean_of_their_losses(model: Any, rows: Rows, micro_tokens: int) -> None:
    alone = torch.stack([reference(model, rows, i) for i in range(len(rows))])
    counts = torch.tensor([float(rows.row(i)[1][1:].sum()) for i in range(len(rows))])
    by_example = ours(model, some(rows, range(len(rows)), micro_tokens, "example"))
    by_token = ours(model, some(rows, range(len(rows)), micro_tokens, "token"))
    torch.testing.assert_close(by_example, alone.mean(), atol=1e-5, rtol=0)
    torch.testing.assert_close(by_token, (alone * counts).sum() / counts.sum(), atol=1e-5, rtol=0)


def test_packed_blocks_have_the_librarys_loss(model: Any, release: Path, tokenizer: Any, tmp_path: Path) -> None:
    texts = list(read_texts(release, "train"))[:40]
    rows = write_rows(tmp_path / "texts", encode_texts(texts, tokenizer), len(tokenizer))
    packed = Packed(rows, context=64, batch_tokens=512, seed=1, end=tokenizer.eos_token_id)
    for micro in packed.batch(1, 256):
        ids, targets, weights = (torch.from_numpy(a) for a in (micro.ids, micro.targets, micro.weights))
        assert len(ids) == micro.starts[-1] and set(np.diff(micro.starts)) <= {64, len(ids) % 64}
        logits = torch.cat([model(input_ids=row[None]).logits[0] for row in ids.split(np.diff(micro.starts).tolist())])
        logits = logits[micro.at]
        expected = F.cross_entropy(logits, targets, reduction="none") @ weights
        torch.testing.assert_close(token_loss(model, on_device(micro, CPU)), expected, atol=1e-5, rtol=0)


def test_accumulated_gradients_are_those_of_the_whole_batch(model: Any, rows: Rows) -> None:
    gradients = []
    for micro_tokens in (256, 100_000):
        model.zero_grad()
        for micro in some(rows, range(len(rows)), micro_tokens, "token"):
            token_loss(model, on_device(micro, CPU)).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for small, large in zip(*gradients, strict=True):
        torch.testing.assert_close(small, large, atol=1e-6, rtol=1e-4)


def test_padding_is_not_in_the_loss(model: Any, rows: Rows) -> None:
    losses = [ours(model, some(rows, range(8), 100_000, "token")) for pad in (0, 7)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=0)


def test_flipping_the_label_moves_the_loss(model: Any, release: Path, tokenizer: Any, tmp_path: Path) -> None:
    """The answer's words are what is learned: the same prompt with the other answer has another loss."""
    table = read_examples(release, "train")
    row = next(r for r in table.to_pylist() if r["choices"] and r["template"] == "question")
    flipped = pa.Table.from_pylist([{**row, "completion": choice} for choice in row["choices"]], table.schema)
    rows = write_rows(tmp_path / "flipped", encode_examples(flipped, tokenizer, 256, whole=False), len(tokenizer))
    first, second = (ours(model, some(rows, [i], 512, "token")).item() for i in (0, 1))
    assert abs(first - second) > 1e-4


def test_targets_are_the_next_tokens(rows: Rows) -> None:
    """The classic missing shift: a hidden state predicts the token after its own."""
    (micro,) = some(rows, [0], 512, "token")
    tokens, learned = rows.row(0)
    place = int(micro.at[0])
    assert micro.targets[0] == tokens[place + 1] and learned[place + 1] and not learned[place]


@pytest.mark.parametrize("count", [1, 7, 2048, 2049])
def test_chunked_cross_entropy_is_cross_entropy(count: int) -> None:
    torch.manual_seed(count)
    hidden, head = torch.randn(count, 8), torch.randn(30, 8)
    target, weight = torch.randint(0, 30, (count,)), torch.rand(count)
    found = []
    for chunked in (True, False):
        h, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        if chunked:
            loss = weighted_cross_entropy(h, w, target, weight)
        else:
            loss = (F.cross_entropy(h @ w.T, target, reduction="none") * weight).sum()
        (loss * 3).backward()
        found.append((loss.detach(), h.grad, w.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-5)


def test_documents_kept_apart_have_the_loss_of_each_alone(
    model: Any, release: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Packed into blocks or not, a document is read after an end token and nothing else."""
    texts = list(read_texts(release, "train"))[:30]
    rows = write_rows(tmp_path / "texts", encode_texts(texts, tokenizer), len(tokenizer))
    packed = Packed(rows, 1 << 16, 1 << 20, seed=1, end=tokenizer.eos_token_id, apart=True)
    micros = packed.batch(0, 1 << 20)
    assert packed.blocks == 1 and sorted(n for m in micros for n in m.rows) == sorted(set(rows.ids))
    alone, total = torch.zeros(()), 0
    for i in range(len(rows)):
        tokens = torch.tensor([tokenizer.eos_token_id, *rows.row(i)[0].tolist()])
        alone = alone + model(input_ids=tokens[None], labels=tokens[None]).loss * (len(tokens) - 1)
        total += len(tokens) - 1
    torch.testing.assert_close(ours(model, micros), alone / total, atol=1e-5, rtol=0)


def test_documents_packed_together_do_see_one_another(
    model: Any, release: Path, tokenizer: Any, tmp_path: Path
) -> None:
    texts = list(read_texts(release, "train"))[:30]
    rows = write_rows(tmp_path / "texts", encode_texts(texts, tokenizer), len(tokenizer))
    drawn = [Packed(rows, 128, 1 << 20, 1, tokenizer.eos_token_id, flag) for flag in (False, True)]
    together, apart = (packed.batch(0, 4096) for packed in drawn)
    assert sum(m.tokens for m in together) == sum(m.tokens for m in apart) == int(rows.starts[-1])
    assert float((ours(model, together) - ours(model, apart)).detach().abs()) > 1e-5


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "deberta-v2", "albert"])
def test_any_masked_model_has_the_librarys_loss(kind: str) -> None:
    """Whatever stands between its blocks and its words, and where its positions begin."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.for_model(
        kind, vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=40, pad_token_id=1, embedding_size=32,
    )
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(config).eval()
    rng = np.random.default_rng(1)
    drawn = [rng.integers(4, 60, n) for n in (9, 5, 12)]
    flags = [np.arange(len(tokens)) % 3 == 1 for tokens in drawn]
    micros = cut([Row(np.where(f, 3, t), f, (), t) for t, f in zip(drawn, flags, strict=True)], 64, 0, "token")
    expected, total = torch.zeros(()), sum(int(f.sum()) for f in flags)
    for tokens, flag in zip(drawn, flags, strict=True):
        read, said = torch.from_numpy(np.where(flag, 3, tokens)), torch.from_numpy(np.where(flag, tokens, -100))
        expected = expected + model(input_ids=read[None], labels=said[None]).loss * int(flag.sum()) / total
    torch.testing.assert_close(ours(model, micros), expected, atol=1e-5, rtol=0)
