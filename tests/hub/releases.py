"""Small releases and models as zhiling writes them, from real reviews, in milliseconds: what there is to publish."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from zhiling.rows import EXAMPLE_SCHEMA, SPLITS, split_schema
from zhiling.seeds import uniform
from zhiling.store import PARQUET, digest, write_json, write_manifest, write_text

Review = dict[str, str]
COLUMNS = split_schema({"text": "string", "label": "label"})


def write_release(
    folder: Path, reviews: Sequence[Review], version: str = "1.0.0", *, templates: Sequence[str] = ("question",),
    licence: str = "MIT", name: str = "tiny", words: str = "", shards: int = 1,
) -> Path:
    """A release of these reviews below `folder`/<name>/<version>."""
    release = folder / name / version
    sides: dict[str, list[Review]] = {split: [] for split in SPLITS}
    for review in reviews:
        share = uniform(0, "split", review["text"])
        sides["train" if share < 0.7 else "validation" if share < 0.85 else "test"].append(review)
    for split in SPLITS:
        texts = [_text(review, split, licence) for review in sides[split]]
        rows = [_example(text, template) for template in templates for text in texts]
        _write(release / "data", split, rows, EXAMPLE_SCHEMA, shards)
        _write(release / "corpus" / "reviews", split, texts, COLUMNS, 1)
    front = {"license": licence.lower(), "language": ["zh"], "configs": [_config("examples", "data")]}
    front["configs"].append(_config("corpus-reviews", "corpus/reviews"))
    text = f"---\n{yaml.safe_dump(front)}---\n\n# {name} {version}\n\n{words}\n\n![labels](plots/labels.svg)\n"
    write_text(release / "README.md", text)
    write_text(release / "plots" / "labels.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>\n")
    write_text(release / "CHANGELOG.md", f"# Changelog\n\n## {version}\n")
    write_text(release / "rejects.jsonl", "")
    counts = {split: {"rows": len(sides[split]) * len(templates)} for split in SPLITS}
    about = {"name": name, "version": version, "splits": counts, "packs": {}}
    write_manifest(release, "release", about | {"corpora": {"reviews": {"license": licence}}})
    return release


def _text(review: Review, split: str, licence: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS.names)
    row |= {"id": digest(review["text"])[:16], "corpus": "reviews", "language": "zh", "license": licence, **review}
    return row | {"split": split, "group_id": digest(review["text"])[:16]}


def _example(text: dict[str, Any], template: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(EXAMPLE_SCHEMA.names)
    row |= {"id": digest([text["id"], template])[:16], "prompt": f"{text['text']}\n好评还是差评？", "shots": 0}
    row |= {"completion": text["label"], "choices": ["negative", "positive"], "pack": "zh/sentiment"}
    return row | {"template": template, "corpus": "reviews", "source_id": text["id"], "group_id": text["group_id"]}


def _write(folder: Path, split: str, rows: list[dict[str, Any]], schema: pa.Schema, shards: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(shards):
        table = pa.Table.from_pylist(rows[n::shards], schema=schema)
        pq.write_table(table, folder / f"{split}-{n:05d}-of-{shards:05d}.parquet", **PARQUET)


def _config(name: str, place: str) -> dict[str, Any]:
    files = [{"split": split, "path": f"{place}/{split}-*.parquet"} for split in SPLITS]
    return {"config_name": name, "default": name == "examples", "data_files": files}


def write_model(folder: Path, norm: float = 1.0) -> Path:
    """A Llama of a few thousand parameters, written without torch, and a card with its results on it."""
    import numpy as np
    from safetensors.numpy import save_file

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 8,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 32, "tie_word_embeddings": True, "dtype": "float32",
    }
    square, up, layer = (8, 8), (16, 8), "model.layers.0"
    shapes = {f"{layer}.self_attn.{name}_proj.weight": square for name in "qkvo"}
    shapes |= {f"{layer}.mlp.{name}_proj.weight": up for name in ("gate", "up")}
    shapes |= {f"{layer}.mlp.down_proj.weight": (8, 16), "model.embed_tokens.weight": (64, 8)}
    weights = {name: np.full(shape, 0.01, "float32") for name, shape in shapes.items()}
    norms = (f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm")
    weights |= {f"{name}.weight": np.full(8, norm, "float32") for name in norms}
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    metric = {"type": "accuracy", "value": 0.5, "name": "accuracy"}
    result = {"task": {"type": "text-generation"}, "dataset": {"type": "org/tiny", "name": "tiny"}, "metrics": [metric]}
    front = {"license": "mit", "model-index": [{"name": "tiny-model", "results": [result]}]}
    write_text(folder / "README.md", f"---\n{yaml.safe_dump(front)}---\n\n# tiny-model\n")
    write_manifest(folder, "model", {"name": "tiny-model", "stage": "instruct", "releases": []})
    return folder
