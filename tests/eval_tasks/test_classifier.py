"""A head that labels texts is scored on the test rows themselves; others' heads are refused."""

import json
import shutil
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.models import find_subject
from zhiling.eval_tasks.run import evaluate
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.predict import predict
from zhiling.trainer.stages import finetune


@pytest.fixture(scope="module")
def head(release: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence head after two steps."""
    own = {"head": "sequence", "max_steps": 2, "batch_rows": 8, "validation_rows": 8}
    settings = TrainSettings.model_validate({"finetune": own, "precision": "fp32"})
    return finetune(release, model, settings, tmp_path_factory.mktemp("heads") / "head")


def test_its_answers_are_those_of_predict(release: Path, head: Path, tmp_path: Path) -> None:
    folder = evaluate(str(head), release, EvalSettings(limit=6), tmp_path)
    (path,) = folder.glob("samples_*.jsonl")
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(samples) == 6
    texts = tmp_path / "rows.jsonl"
    texts.write_text("".join(json.dumps({"text": s["doc"]["prompt"]}) + "\n" for s in samples), encoding="utf-8")
    for sample, row in zip(samples, predict(head, "zh/sentiment", str(texts)), strict=True):
        scores = [float(response[0]) for response in sample["filtered_resps"]]
        assert sample["doc"]["choices"][scores.index(max(scores))] == row["label"]
    (results,) = folder.glob("results_*.json")
    assert "f1_macro,none" in next(iter(json.loads(results.read_text(encoding="utf-8"))["results"].values()))


def test_a_head_of_other_labels_is_refused(release: Path, head: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(head, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    config["id2label"], config["label2id"] = {"0": "cat", "1": "dog"}, {"cat": 0, "dog": 1}
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"no pack here has its labels \(cat, dog\); score it on a release of its own"):
        evaluate(str(other), release, EvalSettings(limit=6), tmp_path / "out")


def test_a_head_that_labels_tokens_is_refused(head: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(head, tmp_path / "other"))
    text = (other / "config.json").read_text(encoding="utf-8")
    (other / "config.json").write_text(text.replace("ForSequenceCl", "ForTokenCl"), encoding="utf-8")
    with pytest.raises(UserError, match="a head that labels tokens, which answers no task; its F1 on validation"):
        find_subject(str(other))
