"""How fast training is: this trainer, TRL's SFTTrainer with packing, transformers' Trainer, the tutorial loop.

In: a release (`--release`; built from recipes/quickstart.yaml where absent), whose real instruction rows all four
train on, from the same weights, with the loss on completions. Out: a table, and benchmarks/results/train.json.
Each runs in a process of its own, one after the other. Tokens are those of real text, padding not counted; the
first step is left out. The peak is that of a 2048 x 2048 x 2048 bf16 product on all cores (2 x 2048^3 operations, the
best of five), measured in the same process when training has just ended. FLOPs of a
token: 6 x weights of the blocks + 6 x weights of the head x share of supervised tokens + 6 x layers x width x
mean row length; weights of the last layer that only supervised tokens pass count like the head's, and so do its
queries' weight and scores where at most a quarter of the tokens are supervised.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

HERE = Path(__file__).parent
CONTEXT, BATCH, SEED = 512, 32, 7
KINDS = ("zhiling", "trl packing", "transformers Trainer", "tutorial loop")


def prepare(release: Path, work: Path, vocabulary: int = 6000) -> None:
    """The tokenizer and the token rows that all contenders share."""
    from zhiling.trainer.config import TokenizerSettings
    from zhiling.trainer.data import encode_examples, read_examples, read_texts, write_rows
    from zhiling.trainer.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(
        [text for _, text in read_texts(release, "train")], TokenizerSettings(vocabulary=vocabulary), CONTEXT
    )
    tokenizer.save_pretrained(work / "tokenizer")
    table = read_examples(release, "train").slice(0, 2048)
    write_rows(work / "rows", encode_examples(table, tokenizer, CONTEXT, whole=False), len(tokenizer))


def contender(kind: str, preset: str, precision: str, steps: int, work: Path) -> dict[str, float]:
    """Train for some steps; real tokens a second after the first, peak memory, share of the peak."""
    import torch
    from transformers import AutoTokenizer

    from zhiling.trainer.config import ModelSettings
    from zhiling.trainer.data import open_rows
    from zhiling.trainer.device import flops_per_token, peak_flops
    from zhiling.trainer.model import new_model

    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    rows = open_rows(work / "rows")
    model = new_model(ModelSettings(preset=preset, context=CONTEXT), tokenizer, SEED)  # type: ignore[arg-type]
    bf16 = precision == "bf16"
    run = {"zhiling": ours, "trl packing": trl, "transformers Trainer": hf_trainer, "tutorial loop": tutorial}[kind]
    speed = run(model, tokenizer, rows, steps, bf16, work)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = rows.counts
    flops = flops_per_token(model, counts["learned"] / counts["tokens"], counts["tokens"] / counts["rows"])
    peak = peak_flops(torch.device("cpu"), bf16=True)
    share = speed * flops / peak
    return {"tokens_per_s": speed, "peak_mib": memory, "share_of_bf16_peak": share, "peak_gflops": peak / 1e9}


def ours(model: Any, tokenizer: Any, rows: Any, steps: int, bf16: bool, work: Path) -> float:
    import torch

    from zhiling.trainer.batches import Drawn
    from zhiling.trainer.config import InstructSettings
    from zhiling.trainer.device import keep_memory, use_threads
    from zhiling.trainer.loop import Run, train
    from zhiling.trainer.loss import token_loss

    own = InstructSettings(max_steps=steps, batch_rows=BATCH, checkpoint_seconds=1e6, validate_every=1e6)
    batches = Drawn(rows, BATCH, SEED, tokenizer.pad_token_id, "token")
    keep_memory()
    threads, workers = torch.get_num_threads(), use_threads(model.num_parameters(), model.device)
    with tempfile.TemporaryDirectory() as folder:
        valid = batches.some([0], CONTEXT)
        train(model, Run("zhiling", batches, valid, token_loss, own, Path(folder), bf16, workers=workers))
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    torch.set_num_threads(threads)  # the peak is that of all cores
    first, last = lines[0], lines[-2]  # the last step holds the validation
    return float((last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]))


class Clock:
    """Counts the real tokens that a model is given, and when each step ends."""

    def __init__(self, model: Any, pad: int) -> None:
        self.tokens, self.ends = [0], []  # type: list[int], list[float]
        self.pad = pad
        model.register_forward_pre_hook(self._forward, with_kwargs=True)

    def _forward(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        self.tokens[-1] += int((given["input_ids"] != self.pad).sum())

    def step(self) -> None:
        self.ends.append(perf_counter())
        self.tokens.append(0)

    @property
    def speed(self) -> float:
        return sum(self.tokens[1 : len(self.ends)]) / (self.ends[-1] - self.ends[0])


def examples(rows: Any) -> list[dict[str, Any]]:
    parts = [rows.row(i) for i in range(len(rows))]
    return [{"input_ids": t.tolist(), "completion_mask": m.astype(int).tolist()} for t, m in parts]


def arguments(kind: Any, steps: int, bf16: bool, work: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(work / "hf"), max_steps=steps, per_device_train_batch_size=BATCH // more.pop("cut", 1),
        bf16=bf16, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        weight_decay=0.1, gradient_accumulation_steps=1, gradient_checkpointing=False, **more,
    )


def ticking(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step()

    return Ticking()


def trl(model: Any, tokenizer: Any, rows: Any, steps: int, bf16: bool, work: Path) -> float:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    clock = Clock(model, tokenizer.pad_token_id)
    own = arguments(SFTConfig, steps, bf16, work, cut=4, packing=True, max_length=CONTEXT, completion_only_loss=True)
    data = Dataset.from_list(examples(rows))
    SFTTrainer(model, own, train_dataset=data, processing_class=tokenizer, callbacks=[ticking(clock)]).train()
    return clock.speed


def hf_trainer(model: Any, tokenizer: Any, rows: Any, steps: int, bf16: bool, work: Path) -> float:
    import torch
    from transformers import Trainer, TrainingArguments

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in some)
        ids = torch.full((len(some), width), tokenizer.pad_token_id)
        labels = torch.full((len(some), width), -100)
        for i, row in enumerate(some):
            tokens = torch.tensor(row["input_ids"])
            ids[i, : len(tokens)] = tokens
            labels[i, : len(tokens)] = torch.where(torch.tensor(row["completion_mask"]).bool(), tokens, -100)
        return {"input_ids": ids, "labels": labels, "attention_mask": (ids != tokenizer.pad_token_id).long()}

    clock = Clock(model, tokenizer.pad_token_id)
    own = arguments(TrainingArguments, steps, bf16, work, remove_unused_columns=False)
    Trainer(model, own, data_collator=collate, train_dataset=examples(rows), callbacks=[ticking(clock)]).train()
    return clock.speed


def tutorial(model: Any, tokenizer: Any, rows: Any, steps: int, bf16: bool, work: Path) -> float:
    """Every row padded to the context, eight a step, the loss over what is not padding."""
    import torch

    clock, optimizer = Clock(model, tokenizer.pad_token_id), torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        some = [rows.row((8 * step + i) % len(rows))[0] for i in range(8)]
        ids = torch.full((8, CONTEXT), tokenizer.pad_token_id)
        for i, tokens in enumerate(some):
            ids[i, : len(tokens)] = torch.from_numpy(tokens.astype("int64"))
        mask = (ids != tokenizer.pad_token_id).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.step()
    return clock.speed


def measured(kind: str, preset: str, precision: str, steps: int, work: Path) -> dict[str, float]:
    """One contender in a process of its own."""
    found = in_a_process(__file__, kind, preset, precision, str(steps), str(work))
    print(f"{preset:<5} {precision} {kind:<22} {found['tokens_per_s']:>9,.0f} tokens/s {found['peak_mib']:>6,.0f} MiB "
          f"{found['share_of_bf16_peak']:>6.1%} of {found['peak_gflops']:,.0f} GFLOP/s", flush=True)
    return found


def in_a_process(script: str, *one: str) -> dict[str, float]:
    """What a script prints last, as JSON, when it is asked for `--one` contender."""
    done = subprocess.run([sys.executable, script, "--one", *one], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(one)}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def release_at(folder: Path) -> Path:
    """The release in `folder`; the quickstart's, built, where there is none."""
    from zhiling.builders.pipeline import build

    return folder if folder.is_dir() else build(HERE.parent / "recipes" / "quickstart.yaml", Path("out"), 2)


def report(name: str, results: dict[str, Any], ratios: dict[str, float]) -> None:
    """Print the ratios; write all down."""
    from zhiling.store import write_json

    for said, ratio in ratios.items():
        print(f"{said:<40} {ratio:.2f}")
    about = {"date": date.today().isoformat(), "machine": "2 CPU cores", "command": f"python benchmarks/{name}.py"}
    write_json(HERE / "results" / f"{name}.json", {**about, "results": results, "ratios": ratios})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", type=Path, default=Path("out/zh-reviews/1.0.0"))
    parser.add_argument("--one", nargs=5)
    parser.add_argument("--quick", action="store_true", help="bf16 only")
    asked = parser.parse_args()
    if asked.one:
        kind, preset, precision, steps, work = asked.one
        print(json.dumps(contender(kind, preset, precision, int(steps), Path(work))))
        return
    steps = {"zhiling": 24, "trl packing": 8, "transformers Trainer": 8, "tutorial loop": 4}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(release_at(asked.release), Path(folder))
        for precision in ("bf16",) if asked.quick else ("bf16", "fp32"):
            for kind in KINDS:
                results[f"nano {precision} {kind}"] = measured(kind, "nano", precision, steps[kind], Path(folder))
        results["mini bf16 zhiling"] = measured("zhiling", "mini", "bf16", 8, Path(folder))
    ratios = {}
    for precision in ("bf16",) if asked.quick else ("bf16", "fp32"):
        mine = results[f"nano {precision} zhiling"]
        for kind in KINDS[1:]:
            other = results[f"nano {precision} {kind}"]
            ratios[f"{precision}, times {kind}"] = mine["tokens_per_s"] / other["tokens_per_s"]
        trl_memory = results[f"nano {precision} trl packing"]["peak_mib"]
        ratios[f"{precision}, peak memory of trl's"] = mine["peak_mib"] / trl_memory
    report("train", results, ratios)


if __name__ == "__main__":
    main()
