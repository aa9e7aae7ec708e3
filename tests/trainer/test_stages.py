"""Stages: model folders with lineage, kept when up to date, never overwritten; foreign and hostile inputs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from zhiling.errors import UserError
from zhiling.store import MANIFEST, differences, file_digest, locked, read_manifest
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.model import load_lm
from zhiling.trainer.stages import finetune, identity, instruct, pretrain

from .conftest import TINY


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({**TINY, **changes})


@pytest.fixture(scope="module")
def instructed(release: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instruct(release, pretrained, settings(), tmp_path_factory.mktemp("models") / "instructed")


def test_the_manifest_tells_the_lineage(release: Path, pretrained: Path, instructed: Path) -> None:
    about = read_manifest(instructed, "model")
    assert differences(instructed, "model") == []
    assert about["parent"] == file_digest(pretrained / MANIFEST)
    assert [step["stage"] for step in about["lineage"]] == ["pretrain", "instruct"]
    assert about["releases"][-1] == {
        "name": "tiny", "version": "1.0.0", "manifest_sha256": file_digest(release / MANIFEST),
        "splits": ["train", "validation"],
    }
    assert about["tokens_seen"] > read_manifest(pretrained, "model")["tokens_seen"] > 0
    card = (instructed / "README.md").read_text(encoding="utf-8")
    assert "never the test split" in card and "curves.png" in card


def test_the_folder_loads_in_transformers_and_generates(instructed: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    model, tokenizer = AutoModelForCausalLM.from_pretrained(instructed), AutoTokenizer.from_pretrained(instructed)
    assert model.config.model_type == "llama" and tokenizer.eos_token == "<|end|>"
    said = pipeline("text-generation", model=model, tokenizer=tokenizer)("这家酒店", max_new_tokens=4)
    assert said[0]["generated_text"].startswith("这家酒店")


def test_a_model_that_is_up_to_date_is_kept(
    release: Path, pretrained: Path, instructed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (instructed / "model.safetensors").stat().st_mtime_ns
    left = instructed.with_name(f".{instructed.name}.work") / "checkpoints"  # by a run killed after its last write
    left.mkdir(parents=True)
    assert instruct(release, pretrained, settings(), instructed) == instructed
    assert (instructed / "model.safetensors").stat().st_mtime_ns == before
    assert f"{instructed} is up to date" in capsys.readouterr().err
    assert not left.parent.exists()


def test_a_model_of_other_settings_is_not_overwritten(release: Path, pretrained: Path, instructed: Path) -> None:
    other = settings(instruct={**TINY["instruct"], "batch_rows": 4})
    with pytest.raises(UserError, match=r"made from other settings \(instruct\.batch_rows 8 → 4\); choose another"):
        instruct(release, pretrained, other, instructed)


def test_an_unfinished_run_of_other_settings_is_not_gone_on_with(release: Path, tmp_path: Path) -> None:
    from zhiling.trainer.checkpoint import claim

    claim(tmp_path / ".m.work", {"seed": 42, "pretrain": {"epochs": 2}})
    (tmp_path / ".m.work" / "metrics.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"an unfinished run of other settings \(pretrain\.epochs 2 → 3\.0;"):
        pretrain(release, settings(pretrain={"epochs": 3}), tmp_path / "m")


def test_a_run_refused_before_it_began_holds_no_place(release: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pack 'zh/sentimen' in it"):
        finetune(release, bert, settings(finetune={"packs": ["zh/sentimen"]}), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_into_one_folder_do_not_mix(release: Path, tmp_path: Path) -> None:
    work = tmp_path / ".m.work"
    work.mkdir()
    refused = pytest.raises(UserError, match=r"\.m\.work: another training is writing here; wait for it to end")
    with locked(work), refused:
        pretrain(release, settings(), tmp_path / "m")
    assert list(work.iterdir()) == []


def test_a_model_of_no_finite_weights_is_not_passed_on_unread(
    release: Path, pretrained: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(pretrained, tmp_path / "broken"))
    weights = {name: weight * float("nan") for name, weight in load_file(broken / "model.safetensors").items()}
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    none = settings(finetune={**TINY["instruct"], "shots_per_class": 0})
    with pytest.raises(UserError, match=r"broken: its loss on validation is not finite \(nan\); give a model whose"):
        finetune(release, broken, none, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_strangers_folder_is_not_overwritten(release: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists and is no model of zhiling's; choose another folder"):
        pretrain(release, settings(), tmp_path / "m")


def test_two_pretrainings_give_the_same_bytes(release: Path, pretrained: Path, tmp_path: Path) -> None:
    again = pretrain(release, settings(), tmp_path / "pretrained")
    for name in ("model.safetensors", "tokenizer.json", "curves.png"):
        assert (again / name).read_bytes() == (pretrained / name).read_bytes()


def test_pickled_weights_are_refused(release: Path, pretrained: Path, tmp_path: Path) -> None:
    hostile = Path(shutil.copytree(pretrained, tmp_path / "hostile"))
    (hostile / "model.safetensors").rename(hostile / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"weights are pickled \(pytorch_model\.bin\), which can run code; save"):
        instruct(release, hostile, settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_foreign_checkpoint_can_be_trained_on(release: Path, pretrained: Path, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(pretrained, tmp_path / "foreign"))
    (foreign / MANIFEST).unlink()
    made = finetune(release, foreign, settings(finetune={**TINY["instruct"], "max_steps": 2}), tmp_path / "out")
    assert [step["stage"] for step in read_manifest(made, "model")["lineage"]] == ["finetune"]


@pytest.mark.parametrize("text", ["not json", "[]", '{"kind": "model"}', '{"kind": "theirs", "lineage": []}'])
def test_a_strangers_own_manifest_means_nothing(release: Path, pretrained: Path, tmp_path: Path, text: str) -> None:
    """Found out at the export, it would cost the whole training."""
    foreign = Path(shutil.copytree(pretrained, tmp_path / "foreign"))
    (foreign / MANIFEST).write_text(text, encoding="utf-8")
    none = settings(finetune={**TINY["instruct"], "shots_per_class": 0})
    about = read_manifest(finetune(release, foreign, none, tmp_path / "out"), "model")
    assert (about["checkpoint"]["name"], len(about["lineage"])) == ("foreign", 1)
    (foreign / "config.json").write_text((foreign / "config.json").read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert identity(foreign) != about["parent"]


@pytest.mark.parametrize(("parent", "objective"), [("bert", "masked"), ("pretrained", "causal")])
def test_pretraining_goes_on_from_a_checkpoint_with_its_own_tokenizer(
    request: pytest.FixtureRequest, release: Path, tmp_path: Path, parent: str, objective: str
) -> None:
    start = request.getfixturevalue(parent)
    own = {**TINY["pretrain"], "max_steps": 2, "from": str(start), "document_masks": True}
    made = pretrain(release, settings(pretrain=own), tmp_path / "m")
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (start, made)]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    before, after = (load_lm(folder).state_dict() for folder in (start, made))
    assert before.keys() == after.keys() and any((before[n] != after[n]).any() for n in before)
    about = read_manifest(made, "model")
    assert about["parent"] == identity(start) and about["settings"]["pretrain"]["objective"] == objective
    assert (about["checkpoint"] or {}).get("name") == ("bert" if parent == "bert" else None)
    assert [step["stage"] for step in about["lineage"]] == ["pretrain"] * (1 if parent == "bert" else 2)
    assert "tokenizer" not in about["settings"] and str(start) not in (made / MANIFEST).read_text(encoding="utf-8")


def test_a_checkpoint_of_the_other_objective_is_refused(release: Path, bert: Path, tmp_path: Path) -> None:
    own = {**TINY["pretrain"], "from": str(bert), "objective": "causal"}
    with pytest.raises(UserError, match=r"bert: its objective is masked, not causal; leave pretrain\.objective out"):
        pretrain(release, settings(pretrain=own), tmp_path / "m")


def test_a_tokenizer_that_is_not_the_models_is_refused(
    release: Path, pretrained: Path, bert: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(pretrained, tmp_path / "mixed"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bert / name, mixed / name)
    with pytest.raises(UserError, match=r"mixed: its tokenizer has \d+ tokens, its model knows 400; put the model's"):
        instruct(release, mixed, settings(), tmp_path / "out")


def test_settings_that_came_later_leave_older_models_up_to_date() -> None:
    """At their defaults they are no part of what a model is made from."""
    said = settings().model_dump(mode="json")
    for section, key in (
        ("tokenizer", "kind"), ("pretrain", "document_masks"), ("pretrain", "start"), ("instruct", "chat"),
        ("finetune", "head"),
    ):
        assert key not in said[section]
    assert settings(instruct={"chat": True}).model_dump(mode="json")["instruct"]["chat"] is True


def test_no_shots_per_class_is_the_parent_scored(release: Path, pretrained: Path, tmp_path: Path) -> None:
    none = settings(finetune={**TINY["instruct"], "shots_per_class": 0})
    made = finetune(release, pretrained, none, tmp_path / "none")
    assert (made / "model.safetensors").read_bytes() == (pretrained / "model.safetensors").read_bytes()
    assert read_manifest(made, "model")["training"]["steps"] == 0
