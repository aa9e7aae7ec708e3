"""Where and how training runs: less memory and compiled blocks change no loss."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zhiling.trainer.batches import Micro
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.data import encode_examples, read_examples, write_rows
from zhiling.trainer.device import blocks_of, checkpoint_activations, compile_blocks, use_threads
from zhiling.trainer.forward import is_plain
from zhiling.trainer.loss import on_device, token_loss
from zhiling.trainer.model import load_lm, load_model
from zhiling.trainer.parts import cores
from zhiling.trainer.stages import instruct

from .conftest import TINY
from .test_distributed import numbers


@pytest.fixture
def micro(release: Path, tokenizer: Any, tmp_path: Path) -> Micro:
    from zhiling.trainer.batches import Drawn

    encoded = encode_examples(read_examples(release, "train").slice(0, 6), tokenizer, 256, whole=False)
    rows = write_rows(tmp_path / "rows", encoded, len(tokenizer))
    (made,) = Drawn(rows, 6, 5, 0, "token").batch(0, 1 << 16)
    return made


def learned(model: Any, micro: Micro) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and its gradients."""
    loss = token_loss(model.train(), on_device(micro, torch.device("cpu")))
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_a_large_model_has_all_cores_whatever_was_trained_before_it() -> None:
    """Sums in products hang on the number of threads: a model must not come out otherwise behind a small one."""
    cores.cache_clear()
    torch.set_num_threads(3)
    try:
        use_threads(10_000_000, torch.device("cpu"))
        assert torch.get_num_threads() == 3
        use_threads(1_000_000, torch.device("cpu"))
        assert torch.get_num_threads() == 1
        use_threads(10_000_000, torch.device("cpu"))
        assert torch.get_num_threads() == 3
    finally:
        cores.cache_clear()


def test_blocks_are_the_layers(model: Any, encoder: Path, bert: Path) -> None:
    assert blocks_of(model) == list(model.model.layers)
    theirs = load_lm(bert)
    assert blocks_of(theirs) == list(theirs.bert.encoder.layer)
    ours = load_lm(encoder)
    assert blocks_of(ours) == list(ours.model.layers)  # and not the embeddings, which are tied to the head


def test_activations_computed_again_are_the_same(model: Any, micro: Micro, pretrained: Path) -> None:
    kept, grads = learned(model, micro)
    lean = load_model(pretrained)
    checkpoint_activations(lean)
    assert is_plain(model.base_model) and not is_plain(lean.base_model)
    again, same = learned(lean, micro)
    assert again == pytest.approx(kept, abs=1e-5)
    assert all(torch.allclose(grads[name], same[name], atol=1e-5) for name in grads)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # the compiler has many of its own
def test_compiled_blocks_train_to_the_same_losses(release: Path, pretrained: Path, tmp_path: Path) -> None:
    """`compile: true` for real, on a processor: rows of all lengths, weights under their own names."""
    plain = instruct(release, pretrained, TrainSettings.model_validate(TINY), tmp_path / "plain")
    settings = TrainSettings.model_validate({**TINY, "compile": True})
    compiled = instruct(release, pretrained, settings, tmp_path / "compiled")
    assert torch.tensor(numbers(compiled)).allclose(torch.tensor(numbers(plain)), atol=1e-4)
    fresh = load_model(pretrained)
    names = [name for name, _ in fresh.named_parameters()]
    compile_blocks(fresh)
    assert [name for name, _ in fresh.named_parameters()] == names


@pytest.mark.skipif(not platform.libc_ver()[0].startswith("glibc"), reason="memory is kept by glibc's allocator only")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    """The same block over and over: without, each time 8,000 pages come from the system again."""
    code = (
        "import resource; from zhiling.trainer.device import keep_memory; {}\n"
        "def once(): bytearray(b'x') * (32 << 20)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "once(); before = faults(); [once() for _ in range(10)]; print(faults() - before)"
    )
    kept, taken = (
        int(subprocess.run([sys.executable, "-c", code.format(say)], capture_output=True, check=True).stdout)
        for say in ("keep_memory()", "")
    )
    assert kept < 1000 < taken
