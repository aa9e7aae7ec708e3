"""Adapters: frozen weights stay to the bit, merged folders are plain models, what cannot be trusted is refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from zhiling.errors import UserError
from zhiling.store import differences, read_manifest
from zhiling.trainer.adapters import adapt, load_adapter
from zhiling.trainer.config import AdapterSettings, TrainSettings
from zhiling.trainer.forward import hidden_states, is_plain
from zhiling.trainer.model import load_lm, load_model
from zhiling.trainer.stages import finetune

from .conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks for it
METHODS = ("lora", "dora", "ia3", "prompt")


def settings(method: str, **changes: Any) -> TrainSettings:
    adapter = {"method": method, "rank": 4, "virtual_tokens": 4}
    own = {**TINY["instruct"], "max_steps": 12, "adapter": adapter, "optimizer": {"learning_rate": 0.02}, **changes}
    return TrainSettings.model_validate({**TINY, "finetune": own})


def hashes(model: Any) -> dict[str, str]:
    """A hash of every frozen weight."""
    return {
        name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest()
        for name, p in model.named_parameters() if not p.requires_grad
    }


@pytest.fixture(scope="module")
def made(release: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    return {m: finetune(release, pretrained, settings(m), home / m) for m in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_frozen_weights_are_the_same_to_the_bit_after_training(
    release: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    from zhiling.trainer import loop

    seen: list[tuple[dict[str, str], dict[str, str], float]] = []
    train = loop.train

    def watched(model: Any, run: Any) -> Any:
        before = hashes(model)
        start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        outcome = train(model, run)
        moved = sum(float((p.detach() - start[n]).abs().sum()) for n, p in model.named_parameters() if n in start)
        seen.append((before, hashes(model), moved))
        return outcome

    monkeypatch.setattr(loop, "train", watched)
    finetune(release, pretrained, settings(method, max_steps=2), tmp_path / "model")
    ((before, after, moved),) = seen
    assert before == after and len(before) >= 19
    assert moved > 0


@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_a_merged_folder_is_a_plain_model(made: dict[str, Path], pretrained: Path, method: str) -> None:
    plain, parent = load_model(made[method]), load_model(pretrained)
    names = [name for name, _ in plain.named_parameters()]
    assert names == [name for name, _ in parent.named_parameters()]
    assert any(not torch.equal(p, q) for p, q in zip(plain.parameters(), parent.parameters(), strict=True))
    assert not (made[method] / "adapter_config.json").exists()
    assert differences(made[method], "model") == []


@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_merging_does_not_change_what_the_model_says(model: Any, method: str) -> None:
    adapted = adapt(model, AdapterSettings.model_validate({"method": method}), seed=1)
    with torch.no_grad():
        for p in adapted.model.parameters():
            if p.requires_grad:
                p.add_(torch.linspace(-0.05, 0.05, p.numel()).view_as(p))
    ids = torch.arange(20, 60)[None]
    apart = adapted.model.eval()(ids).logits
    together = adapted.finish().eval()(ids).logits
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("parent", ["pretrained", "encoder"])
def test_lora_over_plain_layers_needs_no_padding(request: pytest.FixtureRequest, parent: str) -> None:
    """Hidden states and gradients are peft's of each row alone; other adapters take the library's forward."""
    lengths = [30, 8, 20]
    ids, starts = torch.arange(58) + 20, [0, 30, 38, 58]
    lora, dora, dropping = (
        adapt(load_lm(request.getfixturevalue(parent)), AdapterSettings.model_validate(own), seed=1).model
        for own in ({}, {"method": "dora"}, {"dropout": 0.1})
    )
    assert is_plain(lora.base_model) and not is_plain(dora.base_model) and not is_plain(dropping.base_model)
    trained = [p for p in lora.base_model.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in trained:
            p.add_(torch.linspace(-0.05, 0.05, p.numel()).view_as(p))
    found = []
    alone = [lora.base_model(input_ids=row[None]).last_hidden_state[0] for row in ids.split(lengths)]
    for states in (hidden_states(lora, ids, starts), torch.cat(alone)):
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), [p.grad for p in trained]))
        lora.zero_grad()
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    largest = max(float(grad.abs().max()) for grad in found[1][1])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6 * largest, rtol=1e-4)


def test_training_an_adapter_lowers_the_validation_loss(
    release: Path, pretrained: Path, made: dict[str, Path], tmp_path: Path
) -> None:
    untrained = finetune(release, pretrained, settings("lora", shots_per_class=0), tmp_path / "untrained")
    before = read_manifest(untrained, "model")["training"]["validation_loss"]
    for method, folder in made.items():
        assert read_manifest(folder, "model")["training"]["validation_loss"] < before, method


def test_the_same_seed_gives_the_same_adapter(
    release: Path, pretrained: Path, made: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(99)  # what ran before must not matter
    again = finetune(release, pretrained, settings("lora"), tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (made["lora"] / "model.safetensors").read_bytes()


def test_a_tuned_prompt_goes_out_with_its_base_and_loads_in_peft(made: dict[str, Path], pretrained: Path) -> None:
    from peft import PeftModel

    folder = made["prompt"]
    assert (folder / "base" / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    wrapped = PeftModel.from_pretrained(load_model(folder / "base"), str(folder))
    assert wrapped.get_prompt(batch_size=1).shape == (1, 4, 32)
    assert read_manifest(folder, "model")["settings"]["finetune"]["adapter"]["method"] == "prompt"


def test_what_could_not_be_merged_at_the_end_is_refused_at_the_start() -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = RobertaForSequenceClassification(RobertaConfig(vocab_size=50, **sizes))
    with pytest.raises(UserError, match="adapter: ia3: peft cannot merge it under the head of a roberta; use lora"):
        adapt(model, AdapterSettings(method="ia3"), 1, head="SEQ_CLS")
    adapt(model, AdapterSettings(method="lora"), 1, head="SEQ_CLS").finish()


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_the_cards_own_code_loads_the_folder(made: dict[str, Path], method: str) -> None:
    code = (made[method] / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(code.replace("PATH_OR_NAME", str(made[method])).replace("PATH", str(made[method])), found)
    assert len(found["tokenizer"]) == 400
    assert (type(found["model"]).__name__, hasattr(found["model"], "get_prompt")) in (
        ("LlamaForCausalLM", False), ("PeftModelForCausalLM", True)
    )


def test_the_prompts_loss_is_that_of_peft(model: Any) -> None:
    """Rows of two lengths end to end give the losses that peft's own forward gives each alone."""
    from zhiling.trainer.batches import Row, cut
    from zhiling.trainer.loss import on_device

    adapted = adapt(model, AdapterSettings(method="prompt", virtual_tokens=4), seed=3)
    rows = [torch.arange(20, 40), torch.arange(50, 61)]
    (micro,) = cut([Row(r.numpy(), (r > 0).numpy(), ("r",)) for r in rows], 1024, 0, "example")
    ours = adapted.loss(adapted.model.eval(), on_device(micro, torch.device("cpu")))
    # peft's logits begin with those of the prompt's four vectors
    logits = [adapted.model(input_ids=r[None]).logits[0, 4:-1] for r in rows]
    alone = [torch.nn.functional.cross_entropy(x, r[1:]) for x, r in zip(logits, rows, strict=True)]
    assert ours.item() == pytest.approx(sum(loss.item() for loss in alone) / 2, abs=1e-5)


@pytest.fixture
def adapter(model: Any, pretrained: Path, tmp_path: Path) -> Path:
    """A stranger's LoRA folder over the pretrained model."""
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    wrapped.save_pretrained(str(tmp_path / "adapter"))
    name(tmp_path / "adapter", str(pretrained))
    return tmp_path / "adapter"


def name(folder: Path, base: str) -> None:
    about = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    text = json.dumps({**about, "base_model_name_or_path": base})
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def test_a_strangers_adapter_is_merged_and_trained_on(
    adapter: Path, release: Path, pretrained: Path, tmp_path: Path
) -> None:
    parent, merged = load_model(pretrained), load_adapter(adapter)
    assert not torch.equal(merged.model.layers[0].mlp.up_proj.weight, parent.model.layers[0].mlp.up_proj.weight)
    made = finetune(release, adapter, settings("lora", max_steps=1), tmp_path / "out")
    assert read_manifest(made, "model")["training"]["steps"] == 1


def test_a_missing_base_is_one_line(adapter: Path, release: Path, tmp_path: Path) -> None:
    name(adapter, "someone/llama")
    with pytest.raises(UserError, match=r"its base model 'someone/llama' is no model folder here; set base_model_na"):
        finetune(release, adapter, settings("lora"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pickled_adapter_is_refused(adapter: Path, release: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match=r"weights are pickled \(adapter_model\.bin\), which can run code; save"):
        finetune(release, adapter, settings("lora"), tmp_path / "out")


def test_an_adapter_of_another_size_is_one_line(adapter: Path) -> None:
    about = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**about, "r": 64}), encoding="utf-8")
    with pytest.raises(UserError, match=r"adapter: peft cannot load it \(.*size mismatch.*\); save it anew"):
        load_adapter(adapter)


def test_a_tuned_prompt_cannot_be_merged(made: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made["prompt"], tmp_path / "copy"))
    with pytest.raises(UserError, match="a tuned prompt, which is no weight of the model; load it with peft over"):
        load_model(copy)
