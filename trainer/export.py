"""A trained model as a folder that `transformers` loads: safetensors, tokenizer, generation config, card, manifest."""

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from zhiling.cards.markdown import render_card
from zhiling.store import (
    MANIFEST,
    atomic_folder,
    digest,
    file_digest,
    read_manifest,
    write_bytes,
    write_jsonl,
    write_manifest,
    write_text,
)
from zhiling.trainer.checkpoint import METRICS
from zhiling.trainer.model import ENCODERS, count_parameters, manifest_of, quiet

if TYPE_CHECKING:
    from zhiling.trainer.loop import Outcome
    from zhiling.trainer.stages import Stage

TIMES = {"tokens_per_s", "seconds"}  # of a run, not of its model: the same training gives the same folder


def export(
    stage: "Stage", model: Any, tokenizer: Any, outcome: "Outcome", counts: dict[str, Any], more: dict[str, Any],
    scores: dict[str, float],
) -> None:
    """Write the model folder of a stage, whole or not at all; its manifest says `more`, and scores on validation."""
    from transformers import GenerationConfig

    from zhiling.trainer.chat import ends_of

    parent = manifest_of(stage.parent) if stage.parent else None
    checkpoint = {"name": stage.parent.name, "digest": stage.made_from()["parent"]} if stage.parent else None
    release = read_manifest(stage.release, "release")
    about = {
        "name": stage.folder.name,
        "stage": stage.name,
        "made_from": digest(stage.made_from()),
        "inputs": stage.made_from(),
        "parent": stage.made_from()["parent"],
        "checkpoint": parent.get("checkpoint") if parent else checkpoint,
        "lineage": [*(parent["lineage"] if parent else []), {
            "stage": stage.name, "release": release["name"], "version": release["version"],
        }],
        "releases": [*(parent["releases"] if parent else []), {
            "name": release["name"], "version": release["version"],
            "manifest_sha256": file_digest(stage.release / MANIFEST), "splits": ["train", "validation"],
        }],
        "parameters": count_parameters(model),
        "tokens_seen": outcome.tokens + (parent["tokens_seen"] if parent else 0),
        "rows": counts,
        "training": {
            "steps": outcome.steps, "best_step": outcome.best_step, "validation_loss": outcome.best_loss,
            **scores,
        },
        "settings": stage.settings,
        "made_with": {name: version(name) for name in ("zhiling", "torch", "transformers", "tokenizers")},
        **more,
    }
    if model.can_generate():
        ends = ends_of(tokenizer)
        model.generation_config = GenerationConfig(
            max_new_tokens=64, do_sample=False, eos_token_id=ends if len(ends) > 1 else tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    quiet()
    with atomic_folder(stage.folder) as part:
        model.cpu().eval()
        if hasattr(model, "get_base_model"):  # an adapter that cannot be merged: its base goes along
            model.get_base_model().save_pretrained(part / "base")
            tokenizer.save_pretrained(part / "base")
            model.peft_config[model.active_adapter].base_model_name_or_path = "base"
            model.save_pretrained(part, save_embedding_layers=False)  # else peft asks the Hub for the base
        else:
            model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if (stage.work / METRICS).is_file():
            text = (stage.work / METRICS).read_text(encoding="utf-8")
            lines = [json.loads(line) for line in text.splitlines()]
            write_jsonl(part / METRICS, [{k: v for k, v in line.items() if k not in TIMES} for line in lines])
            write_bytes(part / "curves.png", curves(lines))
        card = {"about": about, "kind": kind_of(model, more), "prompt": hasattr(model, "get_base_model")}
        write_text(part / "README.md", render_card("model.md.j2", card))
        write_manifest(part, "model", about)


def kind_of(model: Any, more: dict[str, Any]) -> tuple[str, str]:
    """The library's class and the Hub's task of a model."""
    if "head" in more:
        return {
            "sequence": ("SequenceClassification", "text-classification"),
            "token": ("TokenClassification", "token-classification"),
        }[more["head"]]
    return ("MaskedLM", "fill-mask") if model.config.model_type in ENCODERS else ("CausalLM", "text-generation")


def curves(lines: list[dict[str, Any]]) -> bytes:
    """Training and validation loss over steps, as PNG; the same metrics give the same bytes."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([line["step"] for line in lines], [line["loss"] for line in lines], lw=0.8, alpha=0.6, label="train")
    held_out = [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    axes.plot(*zip(*held_out, strict=True), marker="o", label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()
