"""How fast a classification head is fine-tuned on short texts: this trainer against `transformers.Trainer`.

In: a release (`--release`; built from recipes/quickstart.yaml where absent), whose train reviews both learn, 32 a step,
from the same `pico` encoder of fresh weights and its tokenizer, in bf16, all weights trained with AdamW. The other side
pads each batch to its longest text, once as its rows come and once with rows of like length together (sorted within
fifty batches, so a hundred are timed). Out: a table, and benchmarks/results/head.json. Each in a process of its own,
one after the other; tokens are those of real text, and the first step is left out.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from train import SEED, Clock, arguments, in_a_process, release_at, report, ticking

BATCH, CONTEXT = 32, 512
KINDS = {"zhiling": 202, "transformers Trainer": 101, "transformers Trainer, by length": 101}  # steps


def prepare(release: Path, work: Path) -> None:
    """The encoder, and the rows as tokens with the number of a label."""
    from zhiling.trainer.config import FinetuneSettings, ModelSettings, TokenizerSettings
    from zhiling.trainer.data import read_texts, write_rows
    from zhiling.trainer.labelled import encode_labelled, label_names, read_labelled, separator, the_pack
    from zhiling.trainer.model import new_model
    from zhiling.trainer.tokenizer import train_tokenizer

    own = TokenizerSettings(kind="characters", vocabulary=5000)
    tokenizer = train_tokenizer([text for _, text in read_texts(release, "train")], own, CONTEXT)
    model = new_model(ModelSettings(family="encoder", preset="pico", context=CONTEXT), tokenizer, SEED)
    model.save_pretrained(work / "encoder")
    tokenizer.save_pretrained(work / "encoder")
    pack = the_pack(release, "sequence", None)
    rows = read_labelled(release, "train", pack, "sequence", FinetuneSettings(), SEED, separator(tokenizer))
    names = label_names(pack, "sequence", rows)
    encoded = encode_labelled(rows, tokenizer, CONTEXT, names, "sequence")
    write_rows(work / "rows", encoded, len(tokenizer))
    (work / "names.json").write_text(json.dumps(names), encoding="utf-8")


def contender(kind: str, work: Path) -> dict[str, float]:
    """Train for some steps; real tokens a second of all but the first."""
    from transformers import AutoTokenizer

    from zhiling.trainer.data import open_rows
    from zhiling.trainer.heads import load_classifier

    tokenizer = AutoTokenizer.from_pretrained(work / "encoder")
    names = json.loads((work / "names.json").read_text(encoding="utf-8"))
    model = load_classifier(work / "encoder", "sequence", tokenizer, names, SEED)
    rows, steps = open_rows(work / "rows"), KINDS[kind]
    if kind == "zhiling":
        tokens, seconds = ours(model, tokenizer, rows, steps)
    else:
        tokens, seconds = theirs(kind, model, tokenizer, rows, steps, work)
    speed = (tokens[-1] - tokens[0]) / (seconds[-1] - seconds[0])
    return {"tokens_per_s": speed, "texts_per_s": speed * len(rows) / rows.counts["tokens"]}


def ours(model: Any, tokenizer: Any, rows: Any, steps: int) -> tuple[list[int], list[float]]:
    """Tokens and seconds from the beginning to the end of each step."""
    from zhiling.trainer.batches import Drawn
    from zhiling.trainer.config import InstructSettings
    from zhiling.trainer.device import keep_memory, use_threads
    from zhiling.trainer.heads import sequence_loss
    from zhiling.trainer.loop import Run, train

    own = InstructSettings(max_steps=steps, batch_rows=BATCH, checkpoint_seconds=1e6, validate_every=1e6)
    batches = Drawn(rows, BATCH, SEED, tokenizer.pad_token_id, "example")
    keep_memory()
    workers = use_threads(model.num_parameters(), model.device)
    with tempfile.TemporaryDirectory() as folder:
        valid = batches.some([0], CONTEXT)
        train(model, Run("zhiling", batches, valid, sequence_loss, own, Path(folder), True, workers=workers))
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["tokens"] for line in lines[:-1]], [line["seconds"] for line in lines[:-1]]  # the last one validates


def theirs(
    kind: str, model: Any, tokenizer: Any, rows: Any, steps: int, work: Path
) -> tuple[list[int], list[float]]:
    """The same of `transformers.Trainer`, padding each batch to its longest row."""
    from itertools import accumulate

    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    data = [{"input_ids": rows.row(i)[0].tolist(), "labels": int(rows.targets_of(i)[0])} for i in range(len(rows))]
    more = {"train_sampling_strategy": "group_by_length"} if "length" in kind else {}
    own = arguments(TrainingArguments, steps, True, work, remove_unused_columns=False, **more)
    clock = Clock(model, tokenizer.pad_token_id)
    Trainer(model, own, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=data,
            callbacks=[ticking(clock)]).train()
    return list(accumulate(clock.tokens[: len(clock.ends)])), clock.ends


def measured(work: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Each contender in a process of its own."""
    for kind in KINDS:
        found = in_a_process(__file__, kind, str(work))
        print(f"{kind:<32} {found['tokens_per_s']:>9,.0f} tokens/s {found['texts_per_s']:>7,.0f} texts/s", flush=True)
        yield kind, found


def main() -> None:
    """Measure, print, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", type=Path, default=Path("out/zh-reviews/1.0.0"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(contender(asked.one[0], Path(asked.one[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(release_at(asked.release), Path(folder))
        results = dict(measured(Path(folder)))
    own, *others = results
    ratios = {f"times {kind}": results[own]["tokens_per_s"] / results[kind]["tokens_per_s"] for kind in others}
    report("head", results, ratios)


if __name__ == "__main__":
    main()
