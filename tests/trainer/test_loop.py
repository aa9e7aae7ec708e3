"""The loop against transformers' Trainer, and in trouble: killed, out of memory, not finite."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from zhiling.errors import UserError
from zhiling.trainer.batches import Drawn
from zhiling.trainer.config import InstructSettings, ModelSettings, OptimizerSettings
from zhiling.trainer.data import Rows, encode_examples, read_examples, write_rows
from zhiling.trainer.forward import hidden_states
from zhiling.trainer.loop import Run, Stop, evaluate, train
from zhiling.trainer.loss import OnDevice, token_loss
from zhiling.trainer.model import load_model, new_model

from .conftest import TINY


@pytest.fixture
def rows(release: Path, tokenizer: Any, tmp_path: Path) -> Rows:
    table = read_examples(release, "train").slice(0, 40)
    made = write_rows(tmp_path / "rows", encode_examples(table, tokenizer, 1024, whole=False), len(tokenizer))
    assert len(made) == 40
    return made


def a_run(rows: Rows, work: Path, average: Any = "token", batch_rows: int = 8, **settings: Any) -> Run:
    own = InstructSettings(**{"checkpoint_seconds": 0.0, "validation_rows": 8, "micro_tokens": 1024, **settings})
    batches = Drawn(rows, batch_rows, seed=5, pad=0, average=average)
    return Run("instruct", batches, batches.some(range(8), 1024), token_loss, own, work)


def losses(work: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_first_20_losses_are_those_of_transformers_trainer(
    model: Any, rows: Rows, pretrained: Path, tmp_path: Path
) -> None:
    """Same weights, rows and order: AdamW, warm-up, decay, clipping and the mean over tokens all agree."""
    import transformers
    from transformers import Trainer, TrainingArguments

    from zhiling.trainer.optimizers import rate

    settings = OptimizerSettings(learning_rate=1e-3, warmup=0.2, clip=0.5)
    run = a_run(rows, tmp_path / "ours", epochs=4.0, optimizer=settings)
    assert run.steps == 20
    train(model, run)

    members = [name for step in range(20) for micro in run.batches.batch(step, 1 << 20) for name in micro.rows]
    place = {name: i for i, name in enumerate(rows.ids)}
    data = []
    for name in members:
        tokens, learned = rows.row(place[name])
        labels = [int(t) if keep else -100 for t, keep in zip(tokens, learned, strict=True)]
        data.append({"input_ids": tokens.tolist(), "labels": labels})

    def collate(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in some)
        fill = {"input_ids": 0, "labels": -100}
        made = {key: torch.tensor([r[key] + [f] * (width - len(r[key])) for r in some]) for key, f in fill.items()}
        mask = torch.arange(width)[None] < torch.tensor([len(r["input_ids"]) for r in some])[:, None]
        return made | {"attention_mask": mask.long()}

    class Ordered(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(data)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            chosen = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, lambda s: rate(s, 20, settings))
            return self.lr_scheduler

    transformers.logging.disable_progress_bar()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "theirs"), per_device_train_batch_size=8, num_train_epochs=1, logging_steps=1,
        learning_rate=1e-3, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=0.5, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
    )
    trainer = Ordered(load_model(pretrained), arguments, train_dataset=data, data_collator=collate)
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert theirs == pytest.approx(losses(tmp_path / "ours"), abs=1e-4)


def test_32_rows_are_learned_by_heart(release: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Every answer right, as the token that the model would say: the loss reaches what it should."""
    table = read_examples(release, "train")
    short = [row for row in table.to_pylist() if row["choices"] and len(row["prompt"]) < 120][:32]
    encoded = encode_examples(pa.Table.from_pylist(short, table.schema), tokenizer, 512, whole=False)
    rows = write_rows(tmp_path / "32", encoded, len(tokenizer))
    assert len(rows) == 32
    model = new_model(ModelSettings(preset="pico", hidden=64, layers=2, context=512), tokenizer, seed=1)
    run = a_run(rows, tmp_path / "run", batch_rows=16, epochs=60, validate_every=60, checkpoint_seconds=60,
                optimizer=OptimizerSettings(learning_rate=5e-3))
    train(model, run)
    right = []
    for micro in run.batches.some(range(32), 1 << 16):  # type: ignore[attr-defined]
        states = hidden_states(model, torch.from_numpy(micro.ids), micro.starts)[micro.at]
        right.append((model.lm_head(states).argmax(-1) == torch.from_numpy(micro.targets)).float().mean().item())
    assert right == [1.0]


def test_the_best_weights_by_validation_are_kept(model: Any, rows: Rows, tmp_path: Path) -> None:
    run = a_run(rows, tmp_path, epochs=3, optimizer=OptimizerSettings(learning_rate=0.3, warmup=0))
    outcome = train(model, run)
    seen = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    valid = {line["step"]: line["validation_loss"] for line in seen if "validation_loss" in line}
    assert outcome.best_step == min(valid, key=lambda step: valid[step]) and len(valid) == 3
    assert evaluate(model, run.validation, token_loss) == pytest.approx(outcome.best_loss, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_rows(model: Any, rows: Rows, tmp_path: Path) -> None:
    def poisoned(model: Any, micro: OnDevice) -> torch.Tensor:
        return token_loss(model, micro) * (float("nan") if next(calls) == 6 else 1)  # two parts a step

    calls = iter(range(100))
    run = replace(a_run(rows, tmp_path, micro_tokens=1 << 16), loss=poisoned)
    with pytest.raises(UserError, match=r"instruct, step 3: the loss is not finite \(nan\) on rows \w+, .* is kept"):
        train(model, run)
    report = json.loads((tmp_path / "not-finite.json").read_text(encoding="utf-8"))
    assert sorted(report["rows"]) == sorted(name for m in run.batches.batch(3, 1 << 16) for name in m.rows)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir())[-1] == "step-00000003"


def test_a_loss_that_explodes_stops_with_the_rows_and_a_checkpoint_from_before(
    release: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """A learning rate of 1 for real: the mean of the last ten losses goes above five times that of the first ten."""
    table = read_examples(release, "train")
    short = table.filter([len(prompt) < 90 for prompt in table["prompt"].to_pylist()]).slice(0, 20)
    rows = write_rows(tmp_path / "rows", encode_examples(short, tokenizer, 256, whole=False), len(tokenizer))
    model = new_model(ModelSettings(preset="pico", hidden=256, layers=1, context=256), tokenizer, seed=1)
    absurd = OptimizerSettings(learning_rate=1, warmup=0.5, weight_decay=0)
    run = a_run(rows, tmp_path, batch_rows=2, epochs=12, validate_every=1e4, optimizer=absurd)
    with pytest.raises(UserError, match=r"step \d+: the loss exploded \(mean of the last 10: .*limit .*rows \w+"):
        train(model, run)
    report = json.loads((tmp_path / "exploded.json").read_text(encoding="utf-8"))
    assert sorted(report["rows"]) == sorted(name for m in run.batches.batch(report["step"], 1024) for name in m.rows)
    newest = int(max(p.name for p in (tmp_path / "checkpoints").iterdir()).removeprefix("step-"))
    seen = losses(tmp_path)  # what was written before the stop
    limit = 5 * sum(seen[:10]) / 10
    assert 10 < newest <= report["step"] and seen[newest - 1] <= limit / 2


def test_a_watch_is_told_of_each_validation_and_may_stop_the_run(model: Any, rows: Rows, tmp_path: Path) -> None:
    told = []

    def watch(number: int, loss: float) -> None:
        told.append((number, loss))
        if number == 2:
            raise Stop

    with pytest.raises(Stop):
        train(model, replace(a_run(rows, tmp_path, epochs=3), watch=watch))
    assert [number for number, _ in told] == [1, 2] and told[1][1] < told[0][1]


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_global_one(
    model: Any, rows: Rows, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(model: Any, micro: OnDevice) -> torch.Tensor:
        if micro.starts[-1] > rows.lengths.max():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return token_loss(model, micro)

    train(model, a_run(rows, tmp_path / "roomy", max_steps=5))
    run = a_run(rows, tmp_path / "tight", max_steps=5, micro_tokens=1 << 16)
    train(load_model(pretrained), replace(run, loss=greedy, validation=run.batches.batch(0, 1)))
    assert losses(tmp_path / "tight") == pytest.approx(losses(tmp_path / "roomy"), abs=1e-4)
    assert "out of memory; micro-batches of" in capsys.readouterr().err


def test_a_batch_cut_before_memory_ran_out_is_cut_again(
    model: Any, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next batch is made during a step: were it tried as it is, memory would run out twice for one reason."""
    most = max(m.starts[-1] for m in a_run(rows, tmp_path).batches.batch(0, 1 << 16))

    def greedy(model: Any, micro: OnDevice) -> torch.Tensor:
        if micro.starts[-1] > most * 0.4:  # half of it, once it is in two parts, is too much
            raise MemoryError
        return token_loss(model, micro)

    train(model, replace(a_run(rows, tmp_path, max_steps=4, micro_tokens=most), loss=greedy, validation=[]))
    assert capsys.readouterr().err.count("out of memory") == 1


def test_a_row_that_does_not_fit_alone_is_not_tried_for_ever(model: Any, rows: Rows, tmp_path: Path) -> None:
    def never(model: Any, micro: OnDevice) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(UserError, match="step 0: out of memory with one row at a time; use a shorter context or a sm"):
        train(model, replace(a_run(rows, tmp_path), loss=never))


def test_weights_whose_validation_loss_is_not_finite_are_never_the_best(
    model: Any, rows: Rows, tmp_path: Path
) -> None:
    def poisoned(model: Any, micro: OnDevice) -> torch.Tensor:
        return token_loss(model, micro) * (1 if model.training or next(calls) < 1 else float("nan"))

    calls = iter(range(100))
    run = a_run(rows, tmp_path, epochs=2)
    with pytest.raises(UserError, match=r"step 9: the loss on validation is not finite \(nan\) after a step on rows"):
        train(model, replace(run, loss=poisoned, validation=run.batches.batch(0, 1 << 16)))
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["step-00000005"]


SCRIPT = """
import sys, json, torch
from pathlib import Path
torch.set_num_threads(1)
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.stages import instruct
settings = TrainSettings.model_validate(json.loads(sys.argv[4]))
instruct(Path(sys.argv[1]), Path(sys.argv[2]), settings, Path(sys.argv[3]))
"""


def start(release: Path, pretrained: Path, folder: Path, said: Path) -> subprocess.Popen[bytes]:
    settings = json.loads(json.dumps(TINY))
    settings["instruct"] |= {"max_steps": 12, "validate_every": 0.2, "checkpoint_seconds": 0}
    arguments = [str(release), str(pretrained), str(folder), json.dumps(settings)]
    with said.open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=log)


def test_killed_and_started_again_it_ends_with_the_same_bytes(release: Path, pretrained: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "model", tmp_path / "killed" / "model"
    log = tmp_path / "said.txt"
    assert start(release, pretrained, whole, log).wait() == 0, log.read_text(encoding="utf-8")
    process = start(release, pretrained, killed, log)
    checkpoints = killed.with_name(".model.work") / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("step-0000000[5-9]")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not killed.exists()
    newest = max(checkpoints.glob("step-*"))
    with (newest / "state.safetensors").open("r+b") as f:
        f.seek(-64, os.SEEK_END)
        f.write(b"\0" * 64)
    assert start(release, pretrained, killed, log).wait() == 0
    told = f"checkpoint {newest.name} is damaged (state.safetensors: changed); going back to the one before"
    assert told in log.read_text(encoding="utf-8")
    assert (whole / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()
    assert losses(whole) == losses(killed)
    assert not killed.with_name(".model.work").exists()
