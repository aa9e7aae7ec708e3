"""What is scored: a baseline, a model folder, an adapter folder or a model on the Hub, and what is known of it.

In: a name or a folder. Out: a `Subject` with its digest, so that results say exactly what they were measured on.
Refused: a folder that is no model, a model without a tokenizer, weights that are not safetensors.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.store import MANIFEST, digest, file_digest, read_json, read_manifest

BASELINES = ("majority", "linear")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
TOLD = ("stage", "parent", "lineage", "releases", "parameters", "tokens_seen")
MASKED = ("ForMaskedLM", "BertForPreTraining")


@dataclass(frozen=True)
class Subject:
    """Something that can be scored."""

    name: str                   # what tables show
    kind: str                   # baseline, causal, masked or classifier (a head that labels texts)
    digest: str
    source: str = ""            # folder or Hub name to load from
    base: str | None = None     # the model below an adapter
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        """Its name as a folder, as lm-eval writes it."""
        return self.name.replace("/", "__").replace(":", "_")


def find_subject(name_or_folder: str) -> Subject:
    """What `baseline:majority`, a folder or `org/model` stands for."""
    if name_or_folder.startswith("baseline:"):
        baseline = name_or_folder.removeprefix("baseline:")
        if baseline not in BASELINES:
            raise UserError(name_or_folder, "no such baseline", did_you_mean(baseline, BASELINES))
        return Subject(name_or_folder, "baseline", digest(["baseline", baseline]))
    folder = Path(name_or_folder)
    if folder.is_dir():
        return _folder(folder)
    if folder.is_absolute() or name_or_folder.count("/") > 1 or name_or_folder.startswith((".", "~")):
        raise UserError(one_line(name_or_folder), "no such folder", "give a model's folder or its name on the Hub")
    return _hub(name_or_folder)


def _folder(folder: Path) -> Subject:
    is_adapter = (folder / "adapter_config.json").is_file()
    config_file = folder / ("adapter_config.json" if is_adapter else "config.json")
    if not config_file.is_file():
        raise UserError(str(folder), "no config.json in it", "give the folder of a transformers model")
    config = read_json(config_file)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        do = "save the weights as safetensors; nothing else is loaded"
        raise UserError(str(folder), "no *.safetensors in it", do)
    if not is_adapter and not any((folder / name).is_file() for name in TOKENIZERS):
        raise UserError(str(folder), "no tokenizer in it", "save the tokenizer beside the model (save_pretrained)")
    about: dict[str, Any] = {}
    name = folder.resolve().name
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder, "model")
        name = str(manifest.get("name", name))
        about = {key: manifest[key] for key in TOLD if key in manifest}
        about["manifest_sha256"] = file_digest(folder / MANIFEST)
    found = {p.name: file_digest(p) for p in [*weights, config_file, *(folder / t for t in TOKENIZERS)] if p.is_file()}
    base = str(config["base_model_name_or_path"]) if is_adapter else None
    kind = _kind(folder, config if not base else _config_of(base))
    return Subject(name, kind, digest(found), str(folder), base, about)


def _config_of(base: str) -> dict[str, Any]:
    path = Path(base) / "config.json"
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _kind(name: object, config: dict[str, Any]) -> str:
    """How a model answers, by the class that its config names."""
    classes = [str(a) for a in config.get("architectures") or []]
    if any(a.endswith("ForTokenClassification") for a in classes):
        raise UserError(one_line(str(name)), "a head that labels tokens, which answers no task",
                        "its F1 on validation is in its model card; use it with zhiling predict")
    if any(a.endswith("ForSequenceClassification") for a in classes):
        return "classifier"
    return "masked" if any(a.endswith(MASKED) for a in classes) else "causal"


def _hub(name: str) -> Subject:
    from huggingface_hub import HfApi, hf_hub_download

    try:
        revision = str(HfApi().model_info(name).sha)
        with Path(hf_hub_download(name, "config.json", revision=revision)).open(encoding="utf-8") as f:
            config = json.load(f)
    except Exception:  # the client's own errors, the network's, and those of the HTTP library that it happens to use
        do = "give a model's folder, baseline:majority, baseline:linear, or a name that the Hub lets you read"
        raise UserError(one_line(name), "no such folder, and the Hub gives no such model", do) from None
    return Subject(name, _kind(name, config), digest(["hub", name, revision]), name, None, {"revision": revision})
