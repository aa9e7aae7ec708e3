"""Two ranks as one: the same batches, losses within 1e-5, checkpoints that either can go on from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import UserError
from zhiling.store import differences, read_manifest
from zhiling.trainer.batches import Drawn, Row, cut
from zhiling.trainer.data import encode_examples, open_rows, read_examples, write_rows
from zhiling.trainer.distributed import ALONE, Team, alone, team
from zhiling.trainer.loop import train
from zhiling.trainer.model import load_model

from .conftest import TINY

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.integers(1, 5))
def test_the_shares_of_a_micro_batch_are_the_micro_batch(lengths: list[int], world: int) -> None:
    """Each supervised place is in exactly one share, before the same token, with the same target and weight."""
    draw = np.random.default_rng(sum(lengths))
    rows = [Row(draw.integers(1, 99, n), np.arange(n) >= n // 2, (str(i),)) for i, n in enumerate(lengths)]
    (micro,) = cut(rows, 1 << 20, 0, "token")
    shares = [Team(rank, world).share(micro) for rank in range(world)]

    def places(m: Any) -> list[tuple[Any, ...]]:
        begins = np.asarray(m.starts)[np.searchsorted(m.starts, m.at, "right") - 1]
        found = zip(m.at, begins, m.targets, m.weights, strict=True)
        return sorted((tuple(m.ids[b : a + 1].tolist()), int(t), float(w)) for a, b, t, w in found if w)

    assert sorted(p for share in shares for p in places(share)) == places(micro)
    assert all(len(share.at) for share in shares)  # a rank without rows still takes part, with one that weighs nothing


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert team("fsdp") == ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert team() == Team(1, 2) and team("fsdp") == Team(1, 2, sharded=True)
    with pytest.raises(UserError, match=r"zhiling sweep: started 2 times by torchrun; start it once, without torchrun"):
        alone("zhiling sweep")
    with pytest.raises(UserError, match=r"train\.parallel: 'none' with 2 processes; use ddp or fsdp, or start one"):
        team("none")


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from tests.trainer.test_distributed import a_run
from zhiling.trainer.distributed import joined, team
from zhiling.trainer.loop import train
from zhiling.trainer.model import load_model
torch.set_num_threads(1)
home = Path(sys.argv[2])
with joined():
    for name in sys.argv[4:]:
        train(load_model(Path(sys.argv[3])), a_run(home, name, team(name.split("-")[-1])))
"""


def a_run(home: Path, name: str, ranks: Team = ALONE) -> Any:
    """Six steps of two micro-batches on the rows in `home`."""
    from zhiling.trainer.config import InstructSettings
    from zhiling.trainer.loop import Run
    from zhiling.trainer.loss import token_loss

    own = InstructSettings(epochs=2, batch_rows=8, micro_tokens=256, checkpoint_seconds=0, validate_every=0.5)
    batches = Drawn(open_rows(home / "rows"), own.batch_rows, 5, 0, "token")
    return Run("instruct", batches, batches.some(range(9), 512), token_loss, own, home / name, team=ranks)


def numbers(work: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (work / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [[line["step"], line["tokens"], line["loss"], line.get("validation_loss", 0.0)] for line in lines]


def test_two_ranks_train_as_one_and_go_on_from_one_anothers_checkpoints(
    release: Path, pretrained: Path, tokenizer: Any, tmp_path: Path
) -> None:
    table = read_examples(release, "train").slice(0, 24)
    write_rows(tmp_path / "rows", encode_examples(table, tokenizer, 256, whole=False), len(tokenizer))
    train(load_model(pretrained), a_run(tmp_path, "one"))

    def half_done(name: str, copy: str) -> None:
        """`name`'s run as it was after the fourth of six steps."""
        shutil.copytree(tmp_path / name, tmp_path / copy)
        checkpoints = sorted((tmp_path / copy / "checkpoints").iterdir())
        assert [c.name for c in checkpoints] == ["step-00000004", "step-00000005"]
        assert [differences(c, "checkpoint") for c in checkpoints] == [[], []]
        assert not [f for c in checkpoints for f in c.iterdir() if f.suffix not in {".safetensors", ".json"}]
        shutil.rmtree(checkpoints[1])

    for kind in ("ddp", "fsdp"):
        half_done("one", f"one-to-{kind}")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    arguments = [str(Path(__file__).parents[2]), str(tmp_path), str(pretrained)]
    runs = ["ddp", "fsdp", "one-to-ddp", "one-to-fsdp"]
    done = subprocess.run([*TORCHRUN, str(tmp_path / "script.py"), *arguments, *runs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("going on from step 4 of 6") == 2  # the leader alone talks
    for kind in ("ddp", "fsdp"):
        half_done(kind, f"{kind}-to-one")
        train(load_model(pretrained), a_run(tmp_path, f"{kind}-to-one"))
    for name in [*runs, "ddp-to-one", "fsdp-to-one"]:
        assert np.array(numbers(tmp_path / name)) == pytest.approx(np.array(numbers(tmp_path / "one")), abs=1e-5), name


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_torchrun_makes_the_model_that_one_process_makes(
    release: Path, pretrained: Path, tmp_path: Path, kind: str
) -> None:
    """The documented command, tokens and all: one model folder, whose losses are those of one process."""
    import yaml

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"train": {**TINY, "parallel": kind}}), encoding="utf-8")

    def made(start: list[str], name: str) -> Path:
        command = ["-m", "zhiling", "train", "instruct", str(release), str(pretrained), "-r", str(recipe)]
        done = subprocess.run([*start, *command, "-o", str(tmp_path / name)], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.split() == [str(tmp_path / name)], done.stderr
        return tmp_path / name

    one, two = made([sys.executable], "one"), made(TORCHRUN, "two")
    assert np.array(numbers(two)) == pytest.approx(np.array(numbers(one)), abs=1e-5)
    assert read_manifest(two, "model")["made_from"] == read_manifest(one, "model")["made_from"]
    assert differences(two, "model") == [] and not (tmp_path / ".two.work").exists()
