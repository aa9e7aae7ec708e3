"""Training data: train and validation only, verified, cut from the middle, parted as lm-eval parts."""

import ast
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from zhiling.errors import UserError
from zhiling.trainer.data import cut_middle, encode_examples, open_rows, read_examples, read_texts, write_rows

TRAINER = Path(__file__).parents[2] / "trainer"


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "release"))


def test_the_test_split_cannot_be_opened(release: Path) -> None:
    with pytest.raises(ValueError, match="training cannot open the split 'test', only train and validation"):
        read_examples(release, "test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="training cannot open the split 'test'"):
        list(read_texts(release, "test"))  # type: ignore[arg-type]


def test_training_needs_no_test_files_at_all(copy: Path) -> None:
    for path in copy.rglob("test-*.parquet"):
        path.unlink()
    assert read_examples(copy, "train").num_rows and list(read_texts(copy, "validation"))


def test_only_data_py_opens_parquet_of_a_release() -> None:
    """`predict.py` reads files that a person names; nothing else in the trainer reads Parquet."""
    readers = set()
    for path in TRAINER.glob("*.py"):
        names = {n.attr for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)}
        if names & {"read_table", "ParquetFile", "dataset", "read_parquet"}:
            readers.add(path.name)
    assert readers == {"data.py", "predict.py"}


def test_a_truncated_shard_is_named(copy: Path) -> None:
    path = copy / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet: missing or not as the manifest says"):
        read_examples(copy, "train")


def test_texts_are_the_string_columns(release: Path, reviews: list[dict[str, str]]) -> None:
    known = {r["text"] for r in reviews}
    texts = [text for _, text in read_texts(release, "train")]
    assert texts and set(texts) <= known


def test_prompt_and_completion_part_where_lm_eval_parts_them(release: Path, tokenizer: Any) -> None:
    table = read_examples(release, "train").slice(0, 30)
    for row, found in zip(table.to_pylist(), encode_examples(table, tokenizer, 4096, whole=False), strict=True):
        assert not isinstance(found, dict)
        context = tokenizer(row["prompt"])["input_ids"]
        whole = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        assert found.tokens == [*whole, tokenizer.eos_token_id] and found.learned == len(context)


def test_a_long_prompt_is_cut_in_its_middle_and_the_answer_stays_whole(release: Path, tokenizer: Any) -> None:
    table = read_examples(release, "train")
    row = next(r for r in table.to_pylist() if r["choices"])
    long = pa.Table.from_pylist([{**row, "prompt": row["prompt"] * 20}], table.schema)
    (found,) = encode_examples(long, tokenizer, 64, whole=False)
    (full,) = encode_examples(long, tokenizer, 100_000, whole=False)
    assert not isinstance(found, dict) and not isinstance(full, dict) and isinstance(full.learned, int)
    assert len(found.tokens) == 64
    answer = list(full.tokens[full.learned :])
    assert list(found.tokens[-len(answer) :]) == answer
    assert tokenizer.convert_tokens_to_ids("<|cut|>") in found.tokens
    assert list(found.tokens[:20]) == list(full.tokens[:20])


def test_a_completion_longer_than_the_context_is_refused_by_name(release: Path, tokenizer: Any, tmp_path: Path) -> None:
    table = read_examples(release, "train").slice(0, 2)
    rows = table.to_pylist()
    rows[1]["completion"] = "好" * 500
    encoded = encode_examples(pa.Table.from_pylist(rows, table.schema), tokenizer, 256, whole=False)
    made = write_rows(tmp_path / "rows", encoded, len(tokenizer))
    assert made.ids == [rows[0]["id"]] and made.counts["rejected"] == 1
    assert f'"id": "{rows[1]["id"]}"' in (tmp_path / "rows" / "rejects.jsonl").read_text(encoding="utf-8")


def test_cut_middle_keeps_head_and_tail() -> None:
    assert cut_middle([1, 2, 3], 3, 0) == [1, 2, 3]
    assert cut_middle([1, 2, 3, 4, 5, 6], 5, 0) == [1, 2, 0, 5, 6]
    assert cut_middle([1, 2, 3, 4, 5, 6], 4, 0) == [1, 0, 5, 6]


def test_token_files_cut_short_are_noticed(release: Path, tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    encoded = encode_examples(read_examples(release, "train").slice(0, 5), tokenizer, 256, whole=False)
    write_rows(folder, encoded, len(tokenizer))
    data = (folder / "tokens.bin").read_bytes()
    (folder / "tokens.bin").write_bytes(data[: len(data) // 4 * 2])
    with pytest.raises(UserError, match="token files are cut short"):
        open_rows(folder)
