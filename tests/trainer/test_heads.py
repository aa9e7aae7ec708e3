"""Classification heads: attached, trained, chosen by validation, exported as the library's own classes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from zhiling.errors import UserError
from zhiling.store import read_manifest
from zhiling.trainer.batches import Drawn
from zhiling.trainer.classify import open_classifier, spans
from zhiling.trainer.config import TrainSettings
from zhiling.trainer.data import write_rows
from zhiling.trainer.heads import accuracy_and_f1, labels_loss, load_classifier, sequence_loss
from zhiling.trainer.labelled import Head, Labelled, encode_labelled
from zhiling.trainer.loss import on_device
from zhiling.trainer.model import load_lm, load_pair
from zhiling.trainer.stages import finetune

from .conftest import TINY

CPU = torch.device("cpu")
NAMES = ["O", "B-人名", "I-人名"]
ROWS = [Labelled(str(n), "李明" + "说好" * n, "BI"[n % 2], ((0, 2, "人名"),)) for n in range(1, 9)]


def settings(**changes: Any) -> TrainSettings:
    own = {**TINY["instruct"], "head": "sequence", "shots_per_class": 16, "validation_rows": 16, **changes}
    return TrainSettings.model_validate({**TINY, "finetune": own})


def by_heart(**changes: Any) -> TrainSettings:
    """Settings that learn a few texts to the last one."""
    return settings(max_steps=None, epochs=30, validate_every=30, optimizer={"learning_rate": 0.01}, **changes)


@pytest.mark.parametrize("parent", ["bert", "encoder", "pretrained"])
@pytest.mark.parametrize("head", ["sequence", "token"])
def test_the_loss_is_the_librarys_of_each_row_alone(
    request: pytest.FixtureRequest, tmp_path: Path, parent: str, head: Head
) -> None:
    """Padding has no part in it, whether the model reads from one side or from both."""
    folder = request.getfixturevalue(parent)
    _, tokenizer = load_pair(folder)
    names = NAMES if head == "token" else ["B", "I"]
    model = load_classifier(folder, head, tokenizer, names, seed=1).eval()
    rows = write_rows(tmp_path / "rows", encode_labelled(ROWS, tokenizer, 64, names, head), len(tokenizer))
    expected = []
    for i in range(len(rows)):
        tokens, learned = (torch.from_numpy(part.astype("int64")) for part in rows.row(i))
        wanted = rows.targets_of(i)
        assert wanted is not None
        labels = torch.from_numpy(wanted.astype("int64"))
        labels = labels[:1] if head == "sequence" else torch.where(learned.bool(), labels, -100)[None]
        expected.append(float(model(input_ids=tokens[None], labels=labels).loss.detach()))
    (micro,) = Drawn(rows, 8, 1, 0, "example").some(range(len(rows)), 4096)
    loss = (sequence_loss if head == "sequence" else labels_loss)(model, on_device(micro, CPU))
    assert float(loss.detach()) == pytest.approx(sum(expected) / len(expected), abs=1e-5)


@pytest.fixture(scope="module")
def learned(release: Path, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence head that has learned 32 texts by heart."""
    return finetune(release, bert, by_heart(), tmp_path_factory.mktemp("heads") / "learned")


def test_32_texts_are_learned_to_100_percent(release: Path, learned: Path) -> None:
    from zhiling.trainer.classify import label_shares
    from zhiling.trainer.labelled import read_labelled, the_pack

    pack = the_pack(release, "sequence", None)
    rows = read_labelled(release, "train", pack, "sequence", by_heart().finetune, 42, "[SEP]")
    shares = label_shares(*open_classifier(learned), [row.text for row in rows])
    assert len(rows) == 32 and [max(s, key=lambda name: s[name]) for s in shares] == [row.label for row in rows]


def test_the_head_is_attached(bert: Path, learned: Path) -> None:
    """Its weights are trained and saved, and so are those below it: a head on a frozen or lost body is the classic."""
    tokenizer = AutoTokenizer.from_pretrained(bert)
    fresh = dict(load_classifier(bert, "sequence", tokenizer, ["negative", "positive"], seed=42).named_parameters())
    trained = dict(AutoModelForSequenceClassification.from_pretrained(learned).named_parameters())
    assert fresh.keys() == trained.keys()
    for name in ("classifier.weight", "bert.pooler.dense.weight", "bert.encoder.layer.0.attention.self.query.weight"):
        assert not torch.equal(fresh[name], trained[name]), name


def test_the_body_is_the_checkpoints(bert: Path) -> None:
    model = load_classifier(bert, "sequence", AutoTokenizer.from_pretrained(bert), ["a", "b"], seed=1)
    body, own = load_lm(bert).base_model.state_dict(), model.base_model.state_dict()
    assert all(torch.equal(weight, own[name]) for name, weight in body.items())


def test_a_new_heads_weights_hang_on_the_seed(bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)

    def weight(seed: int) -> torch.Tensor:
        found: torch.Tensor = load_classifier(bert, "sequence", tokenizer, ["a", "b"], seed).classifier.weight
        return found

    assert torch.equal(weight(1), weight(1)) and not torch.equal(weight(1), weight(2))


def test_the_folder_loads_in_a_pipeline_with_its_label_names(learned: Path) -> None:
    found = pipeline("text-classification", model=str(learned), top_k=None)(["房间很干净"])[0]
    assert {row["label"] for row in found} == {"negative", "positive"}
    config = json.loads((learned / "config.json").read_text(encoding="utf-8"))
    assert config["label2id"] == {"negative": 0, "positive": 1} and config["architectures"] == [
        "BertForSequenceClassification"
    ]
    about, card = read_manifest(learned, "model"), (learned / "README.md").read_text(encoding="utf-8")
    assert about["checkpoint"]["name"] == "bert" and about["head"] == "sequence"
    assert f"validation macro f1: {about['training']['validation_macro_f1']:.3f}" in card
    assert "pipeline_tag: text-classification" in card and "AutoModelForSequenceClassification" in card


def test_the_checkpoint_is_chosen_by_validation(release: Path, learned: Path, bert: Path, tmp_path: Path) -> None:
    """Validated each epoch the weights are an early step's; without test files nothing changes."""
    copy = Path(shutil.copytree(release, tmp_path / "release"))
    for path in copy.rglob("test-*.parquet"):
        path.unlink()
    own = by_heart().finetune.model_copy(update={"validate_every": 1.0, "epochs": 8})
    made = finetune(copy, bert, by_heart().model_copy(update={"finetune": own}), tmp_path / "m")
    lines = [json.loads(line) for line in (made / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    training = read_manifest(made, "model")["training"]
    assert len(seen) == 8 and training["best_step"] == min(seen, key=lambda step: seen[step])
    assert training["validation_loss"] == min(seen.values())


@pytest.mark.parametrize("parent", ["encoder", "pretrained"])
def test_our_own_models_take_a_head(request: pytest.FixtureRequest, release: Path, tmp_path: Path, parent: str) -> None:
    made = finetune(release, request.getfixturevalue(parent), settings(max_steps=2), tmp_path / "m")
    found = pipeline("text-classification", model=str(made))("很好")
    assert found[0]["label"] in {"negative", "positive"}
    assert [step["stage"] for step in read_manifest(made, "model")["lineage"]] == ["pretrain", "finetune"]
    with pytest.raises(UserError, match="a classifier, which has no words to say; give a language model"):
        load_lm(made)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_an_adapter_under_a_head_is_merged_and_the_head_trained(release: Path, bert: Path, tmp_path: Path) -> None:
    made = finetune(release, bert, settings(adapter={"method": "lora"}), tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(bert)
    fresh = dict(load_classifier(bert, "sequence", tokenizer, ["negative", "positive"], seed=42).named_parameters())
    trained = dict(AutoModelForSequenceClassification.from_pretrained(made).named_parameters())
    assert fresh.keys() == trained.keys()
    moved = {name for name in fresh if not torch.equal(fresh[name], trained[name])}
    assert "classifier.weight" in moved and "bert.encoder.layer.0.attention.self.query.weight" in moved
    assert "bert.embeddings.word_embeddings.weight" not in moved


def test_what_no_head_can_stand_on_is_refused(release: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="adapter: prompt: only a decoder that writes can be prompted"):
        finetune(release, bert, settings(adapter={"method": "prompt"}), tmp_path / "m")
    with pytest.raises(UserError, match=r"a token head learns one pack with spans, here are 0"):
        finetune(release, bert, settings(head="token"), tmp_path / "n")


def test_tokens_are_hidden_where_asked_and_a_tokenizer_can_say_so(
    release: Path, bert: Path, pretrained: Path, tmp_path: Path
) -> None:
    made = [finetune(release, bert, settings(**own), tmp_path / f"m{own}") for own in ({}, {"hide": 0.3})]
    plain, hidden = (AutoModelForSequenceClassification.from_pretrained(folder).classifier.weight for folder in made)
    assert not torch.equal(plain, hidden)
    bare = Path(shutil.copytree(pretrained, tmp_path / "bare")) / "tokenizer_config.json"
    about = json.loads(bare.read_text("utf-8"))
    del about["mask_token"]
    bare.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(UserError, match=r"finetune\.hide: the tokenizer of .*bare has no mask token; leave it out"):
        finetune(release, bare.parent, settings(hide=0.3), tmp_path / "n")


def test_a_body_without_all_its_weights_is_refused(bert: Path, tmp_path: Path) -> None:
    """A new head is expected; a layer that would be drawn at random is not."""
    from safetensors.torch import load_file, save_file

    holed = Path(shutil.copytree(bert, tmp_path / "holed"))
    weights = load_file(holed / "model.safetensors")
    gone = next(name for name in weights if ".layer.1." in name)
    save_file({n: w for n, w in weights.items() if n != gone}, holed / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"holed: no weights for {gone} \(1 missing\); give a whole model"):
        load_classifier(holed, "sequence", AutoTokenizer.from_pretrained(bert), ["a", "b"], 1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"templates": ["cloze"]}, r"train: finetune\.templates: a sequence head learns texts, not their renderings"),
        ({"chat": True}, r"train: finetune\.chat: a sequence head learns texts, not their renderings; leave it out"),
        ({"shots_per_class": 0}, "--shots-per-class: 0, and a new head knows nothing; give a number of texts, or all"),
    ],
)
def test_settings_that_mean_nothing_to_a_head_are_refused(
    release: Path, bert: Path, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(UserError, match=error):
        finetune(release, bert, settings(**changes), tmp_path / "m")


@pytest.fixture(scope="module")
def entities(reviews: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 90 reviews, each after a sentence in which a name and a place are marked."""
    from zhiling.builders.pipeline import build

    folder, rows = tmp_path_factory.mktemp("entities"), []
    names, places = ["李明", "王小红", "张伟"], ["北京", "哈尔滨", "上海"]
    for i, review in enumerate(reviews[180:270]):
        name, place = names[i % 3], places[i // 3 % 3]
        text = f"听说{name}去过{place}。{review['text'][:16]}"
        spans = [{"start": 2, "text": name, "label": "人名"},
                 {"start": text.index(place), "text": place, "label": "地名"}]
        rows.append({"text": text, "types": ["人名", "地名"], "entities": spans})
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    corpus = {"name": "names", "pack": "zh/entities", "license": "MIT", "files": [{"path": "rows.jsonl"}]}
    recipe = {
        "name": "names", "version": "1.0.0", "title": "人名地名", "summary": "测试", "seed": 7, "corpora": [corpus],
        "render": {"templates_per_row": 1, "shots": {0: 1.0}},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return build(folder / "recipe.yaml", folder / "out")


def test_tokens_are_labelled_and_load_in_a_pipeline(entities: Path, bert: Path, tmp_path: Path) -> None:
    made = finetune(entities, bert, by_heart(head="token", shots_per_class="all", batch_rows=16), tmp_path / "m")
    about = read_manifest(made, "model")
    assert about["labels"] == ["O", "B-人名", "I-人名", "B-地名", "I-地名"]
    assert about["training"]["validation_span_f1"] > 0.9
    ask: Callable[..., Any] = pipeline("token-classification", model=str(made), aggregation_strategy="simple")
    theirs = [{"start": e["start"], "end": e["end"], "label": e["entity_group"]} for e in ask("听说王小红去过上海。")]
    assert theirs == [{"start": 2, "end": 5, "label": "人名"}, {"start": 7, "end": 9, "label": "地名"}]
    (ours,) = spans(*open_classifier(made), ["听说王小红去过上海。"])
    assert [{key: own[key] for key in ("start", "end", "label")} for own in ours] == theirs


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks for it
@pytest.mark.parametrize("parent", ["bert", "encoder", "pretrained"])
def test_an_adapter_under_a_token_head_leaves_the_head_whole(
    entities: Path, request: pytest.FixtureRequest, tmp_path: Path, parent: str
) -> None:
    own = settings(head="token", shots_per_class="all", max_steps=2, adapter={"method": "lora", "rank": 2})
    made = finetune(entities, request.getfixturevalue(parent), own, tmp_path / "m")
    model, tokenizer = open_classifier(made)
    assert not any("lora" in name for name, _ in model.named_parameters())
    names = read_manifest(made, "model")["labels"]
    fresh = load_classifier(request.getfixturevalue(parent), "token", tokenizer, names, seed=42)
    head = "score" if parent == "pretrained" else "classifier"
    assert not torch.equal(getattr(model, head).weight, getattr(fresh, head).weight)


def test_macro_f1_counts_labels_that_were_never_said() -> None:
    gold, said = ["a", "a", "b", "c", "a"], ["a", "b", "b", "b", "a"]
    found = accuracy_and_f1(gold, said)
    assert found["validation_macro_f1"] == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)
    assert found["validation_accuracy"] == 0.6
