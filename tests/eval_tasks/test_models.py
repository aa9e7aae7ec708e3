"""What can be scored, and what is refused before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.models import find_subject


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_a_folder_is_known_by_its_bytes_not_by_its_place(model: Path, copy: Path) -> None:
    assert find_subject(str(copy)).digest == find_subject(str(model)).digest
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    assert find_subject(str(copy)).digest != find_subject(str(model)).digest


def test_a_manifest_names_the_model_and_tells_its_lineage(copy: Path) -> None:
    told = {"kind": "model", "name": "reviews-5m", "stage": "instruct", "parameters": 5, "lineage": ["a"]}
    (copy / "manifest.json").write_text(json.dumps(told))
    subject = find_subject(str(copy))
    assert subject.name == "reviews-5m"
    assert subject.about["lineage"] == ["a"]


def test_kinds(copy: Path) -> None:
    assert find_subject("baseline:majority").kind == "baseline"
    assert find_subject(str(copy)).kind == "causal"
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    assert find_subject(str(copy)).kind == "masked"


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("config.json", "no config.json in it"),
        ("model.safetensors", "save the weights as safetensors; nothing else is loaded"),
        ("tokenizer.json", "no tokenizer in it"),
    ],
)
def test_an_incomplete_folder_is_refused(copy: Path, removed: str, message: str) -> None:
    (copy / removed).unlink()
    with pytest.raises(UserError, match=message):
        find_subject(str(copy))


def test_a_pickle_is_no_model(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        find_subject(str(copy))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'linear'"):
        find_subject("baseline:linaer")
    with pytest.raises(UserError, match="no such folder; give a model's folder or its name on the Hub"):
        find_subject(str(tmp_path / "gone"))


def test_a_name_that_the_hub_cannot_be_asked_for_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="no such folder, and the Hub gives no such model"):
        find_subject("models-instructed")
