"""A release in the shapes that other trainers read: messages, alpaca, ShareGPT, one JSONL file a split.

In: a release folder. Out: a folder with `train.jsonl`, `validation.jsonl`, `test.jsonl`. A conversation keeps its
turns; a plain example becomes one question and one answer. White space between prompt and completion is the
chat template's business there, so an answer loses the space that it begins with.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from zhiling.builders.diff import readable, require
from zhiling.errors import UserError
from zhiling.rows import SPLITS
from zhiling.store import atomic_folder, read_manifest

Format = Literal["messages", "alpaca", "sharegpt"]
Example = Mapping[str, Any]
SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


def turns(example: Example) -> list[dict[str, str]]:
    """The example as a conversation that ends with the answer."""
    if example["messages"]:
        return [{"role": m["role"], "content": m["content"]} for m in example["messages"]]
    return [
        {"role": "user", "content": example["prompt"]},
        {"role": "assistant", "content": example["completion"].strip()},
    ]


def as_messages(example: Example) -> dict[str, Any]:
    """`{"id", "messages": [{"role", "content"}, ...]}`, as TRL and the OpenAI formats read it."""
    return {"id": example["id"], "messages": turns(example)}


def as_alpaca(example: Example) -> dict[str, Any]:
    """`{"id", "instruction", "input", "output"}`, with `system` and `history` where there are any."""
    said = turns(example)
    system = [t["content"] for t in said if t["role"] == "system"]
    talk = [t["content"] for t in said if t["role"] != "system"]
    row: dict[str, Any] = {"id": example["id"], "instruction": talk[-2], "input": "", "output": talk[-1]}
    if system:
        row["system"] = system[0]
    if len(talk) > 2:
        row["history"] = [list(pair) for pair in zip(talk[:-2:2], talk[1:-2:2], strict=True)]
    return row


def as_sharegpt(example: Example) -> dict[str, Any]:
    """`{"id", "conversations": [{"from", "value"}, ...]}`."""
    return {
        "id": example["id"],
        "conversations": [{"from": SHAREGPT[t["role"]], "value": t["content"]} for t in turns(example)],
    }


FORMATS: dict[Format, Callable[[Example], dict[str, Any]]] = {
    "messages": as_messages, "alpaca": as_alpaca, "sharegpt": as_sharegpt,
}


def export(release: Path, format: Format, out: Path) -> dict[str, int]:  # noqa: A002 (the flag's own name)
    """Write the release's examples to `out` in `format`; return rows by split.

    Raises UserError where `out` exists, or the release is not whole.
    """
    files = read_manifest(release, "release", "files")["files"]
    if out.exists():
        raise UserError(str(out), "is there already", "choose another folder or remove it")
    counts: dict[str, int] = {}
    with atomic_folder(out) as part:
        for split in SPLITS:
            counts[split] = 0
            with (part / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as f:
                for example in _examples(release, [name for name in files if name.startswith(f"data/{split}-")]):
                    f.write(json.dumps(FORMATS[format](example), ensure_ascii=False) + "\n")
                    counts[split] += 1
    return counts


def _examples(release: Path, names: Collection[str]) -> Iterator[Example]:
    import pyarrow.parquet as pq

    require(release, names)
    for path in (release / name for name in sorted(names)):
        with readable(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096, columns=["id", "prompt", "completion", "messages"]):
                yield from batch.to_pylist()
