"""A trained model as a folder that `transformers` loads: safetensors, tokenizer, generation config, card, manifest."""

import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from zhiling.cards.markdown import render_card
from zhiling.store import MANIFEST, atomic_folder, digest, file_digest, read_manifest, write_manifest, write_text
from zhiling.trainer.model import count_parameters, quiet

if TYPE_CHECKING:
    from zhiling.trainer.loop import Outcome
    from zhiling.trainer.stages import Stage


def export(stage: "Stage", model: Any, tokenizer: Any, outcome: "Outcome", counts: dict[str, Any]) -> None:
    """Write the model folder of a stage, whole or not at all."""
    from transformers import GenerationConfig

    parent = read_manifest(stage.parent, "model") if stage.parent else None
    release = read_manifest(stage.release, "release")
    about = {
        "name": stage.folder.name,
        "stage": stage.name,
        "made_from": digest(stage.made_from()),
        "inputs": stage.made_from(),
        "parent": file_digest(stage.parent / MANIFEST) if stage.parent else None,
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
        "training": {"steps": outcome.steps, "best_step": outcome.best_step, "validation_loss": outcome.best_loss},
        "settings": stage.settings,
        "made_with": {name: version(name) for name in ("zhiling", "torch", "transformers", "tokenizers")},
    }
    model.generation_config = GenerationConfig(
        max_new_tokens=64, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    quiet()
    with atomic_folder(stage.folder) as part:
        model.cpu().eval().save_pretrained(part)
        tokenizer.save_pretrained(part)
        shutil.copy(stage.work / "metrics.jsonl", part / "metrics.jsonl")
        write_text(part / "README.md", render_card("model.md.j2", {"about": about}))
        write_manifest(part, "model", about)
