"""Adapters: a few trained numbers beside frozen weights, by peft; merged into plain weights at the end.

In: a model and the recipe's `adapter` section, or the folder of an adapter. Out: a model to train with its loss,
then one to export. LoRA, DoRA and IA³ merge; a tuned prompt cannot, and goes out as an adapter beside its base.
Refuses an adapter whose base is not here (nothing is downloaded) and pickled adapter weights.
"""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import UserError, one_line
from zhiling.seeds import draw
from zhiling.store import read_json
from zhiling.trainer.config import AdapterSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from zhiling.trainer.loss import Loss, OnDevice

CONFIG = "adapter_config.json"  # peft's name
IA3_PLACES = {"modernbert": (["attn.Wqkv", "mlp.Wo"], ["mlp.Wo"])}  # where peft does not know them

HEADS = ("classifier", "score")  # the library's names of classifiers' heads, which are trained whole


@dataclass(frozen=True)
class Adapted:
    """What is trained, with which loss, and what makes it the model that is exported."""

    model: Any
    loss: "Loss"
    finish: Callable[[], Any]


def adapt(
    model: Any, settings: AdapterSettings, seed: int, loss: "Loss | None" = None, head: str | None = None
) -> Adapted:
    """Freeze `model` and put an adapter on it; the adapter's first weights hang on `seed` alone.

    `loss` is what it is trained by (default: that of a language model), `head` peft's name of a classifier's task,
    whose head is trained whole.
    """
    import torch
    from peft import get_peft_model

    from zhiling.trainer.loss import token_loss
    from zhiling.trainer.model import ENCODERS

    name = str(model.name_or_path)
    if settings.method == "prompt" and (head or model.config.model_type in ENCODERS):
        raise UserError("adapter: prompt", "only a decoder that writes can be prompted", "use lora, dora or ia3")
    heads = [getattr(model, own) for own in HEADS if hasattr(model, own)]
    if settings.method == "ia3" and not all(hasattr(own, "weight") for own in heads):
        saw = f"peft cannot merge it under the head of a {model.config.model_type}"
        raise UserError("adapter: ia3", saw, "use lora")
    try:
        with torch.random.fork_rng(devices=[]), _without_old_names():
            torch.manual_seed(draw(seed, "adapter", settings.method) >> 1)
            wrapped = get_peft_model(model, _config(settings, model.config.model_type, head))
    except ValueError as error:
        raise UserError(f"adapter: {settings.method}", one_line(str(error), 160), "use another method") from None
    if settings.method == "prompt":
        return Adapted(wrapped, prompt_loss, lambda: wrapped)
    return Adapted(wrapped.get_base_model(), loss or token_loss, lambda: _merged(wrapped, name))


def _merged(wrapped: Any, name: str) -> Any:
    model = wrapped.merge_and_unload()
    model.name_or_path = name
    return model.requires_grad_(True)


def _config(settings: AdapterSettings, kind: str, head: str | None) -> Any:
    from peft import IA3Config, LoraConfig, PromptTuningConfig

    if settings.method == "prompt":
        return PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=settings.virtual_tokens, prompt_tuning_init="SAMPLE_VOCAB",
        )
    if settings.method == "ia3":
        places, inner = IA3_PLACES.get(kind, (None, None))
        return IA3Config(task_type=head, target_modules=places, feedforward_modules=inner)
    whole = rf"({'|'.join(HEADS)})(\..*)?" if head else None
    return LoraConfig(
        task_type=head, r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
        target_modules="all-linear", exclude_modules=whole, use_dora=settings.method == "dora",
    )


def prompt_loss(model: Any, micro: "OnDevice") -> "Tensor":
    """`token_loss` with the tuned prompt's vectors before each row."""
    from zhiling.trainer.loss import weighted_cross_entropy

    hidden_MD = _prompted(model, micro.ids, micro.starts).index_select(0, micro.at)
    return weighted_cross_entropy(hidden_MD, model.get_output_embeddings().weight, micro.targets, micro.weights)


def _prompted(model: Any, ids: "Tensor", starts: list[int]) -> "Tensor":
    """Hidden states of rows end to end, each row read after the prompt; padded on the right."""
    import torch

    base = model.get_base_model()
    lengths = [b - a for a, b in pairwise(starts)]
    width = max(lengths)
    place = torch.cat([torch.arange(n) + i * width for i, n in enumerate(lengths)]).to(ids.device)
    padded = ids.new_zeros(len(lengths) * width)
    padded[place] = ids[: starts[-1]]
    prompt_BVD = model.get_prompt(batch_size=len(lengths))
    words_BTD = base.get_input_embeddings()(padded.view(-1, width))
    inputs = torch.cat([prompt_BVD, words_BTD], 1)
    states_BTD = base.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, prompt_BVD.shape[1] :]
    states_ND: Tensor = states_BTD.flatten(0, 1).index_select(0, place)
    return states_ND


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter belongs to. Raises UserError where it is not on this machine."""
    about = read_json(folder / CONFIG)
    name = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    if not isinstance(name, str) or not name:
        raise UserError(str(folder / CONFIG), "names no base model", "set base_model_name_or_path to its folder")
    for base in (folder / name, Path(name)):
        if (base / "config.json").is_file():
            return base
    raise UserError(str(folder / CONFIG), f"its base model '{one_line(name)}' is no model folder here",
                    "set base_model_name_or_path to the base's folder; nothing is downloaded")


def load_adapter(folder: Path) -> Any:
    """The base model with an adapter merged in. Raises UserError for what cannot be merged, read or trusted."""
    from peft import PeftModel

    from zhiling.trainer.model import load_lm, require_safetensors

    require_safetensors(folder)
    base = base_of(folder)
    with _refused(folder), _without_old_names():
        wrapped = PeftModel.from_pretrained(load_lm(base), str(folder))
    if not hasattr(wrapped.base_model, "merge_and_unload"):
        raise UserError(str(folder), "a tuned prompt, which is no weight of the model",
                        f"load it with peft over {base}, or with lm-eval's `peft=` argument")
    return _merged(wrapped, str(folder))


@contextmanager
def _without_old_names() -> "Iterator[None]":
    """Without complaints of no use: transformers' about a name that peft asks it for, peft's about GPT-2's layout."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@contextmanager
def _refused(folder: Path) -> "Iterator[None]":
    """What peft says of a folder that it cannot read, in one line."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, OSError) as error:
        raise UserError(str(folder), f"peft cannot load it ({one_line(str(error), 120)})", "save it anew") from None
