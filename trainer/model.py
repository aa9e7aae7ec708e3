"""Compact models as `transformers` configs: a Llama-like decoder and a ModernBERT-like encoder in five sizes.

In: sizes and a tokenizer. Out: a freshly initialised model, the same weights for the same seed, or one read
from a folder. Refuses pickled weights, code from the folder, and a tokenizer that is not the model's.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, one_line
from zhiling.store import read_json, read_manifest
from zhiling.trainer.config import ModelSettings

ENCODERS = {
    "modernbert", "bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta", "deberta-v2", "ernie", "albert",
    "megatron-bert", "roformer", "mpnet", "eurobert",
}
AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet"}  # their positions begin behind the padding's number
CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
HEAD = 64  # width of an attention head
# hidden, layers, feed-forward width. About 2, 5, 25, 124 and 350 million parameters
SIZES: dict[str, tuple[int, int, int]] = {
    "pico": (192, 3, 512),
    "nano": (256, 4, 704),
    "mini": (512, 6, 1408),
    "small": (768, 12, 2048),
    "medium": (1024, 24, 2816),
}


def sizes(settings: ModelSettings) -> tuple[int, int, int]:
    """Hidden width, layers and feed-forward width that the settings ask for."""
    hidden, layers, inner = SIZES[settings.preset]
    if settings.hidden:
        hidden, inner = settings.hidden, round(settings.hidden * 8 / 3 / 64) * 64
    return hidden, settings.layers or layers, inner


def heads_of(hidden: int) -> int:
    """Attention heads of a model so wide: as many as leave each a width of `HEAD` or more, and an even one."""
    return next(heads for heads in range(max(1, hidden // HEAD), 0, -1) if hidden % (2 * heads) == 0)


def new_model(settings: ModelSettings, tokenizer: Any, seed: int) -> Any:
    """A model with weights drawn from `seed`; small models tie their embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, inner = sizes(settings)
    heads = heads_of(hidden)
    if settings.family == "encoder":
        return _new_encoder(settings, tokenizer, seed, heads)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=settings.context,
        tie_word_embeddings=True, initializer_range=0.02, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, rope_theta=10_000.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _new_encoder(settings: ModelSettings, tokenizer: Any, seed: int, heads: int) -> Any:
    """A ModernBERT of these sizes; its gated feed-forward layers are as wide as the decoder's."""
    import torch
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    hidden, layers, inner = sizes(settings)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=settings.context, decoder_bias=False,
        bos_token_id=end, cls_token_id=end, eos_token_id=end, sep_token_id=end, pad_token_id=pad,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ModernBertForMaskedLM(config)


def load_model(folder: Path) -> Any:
    """The causal model of a folder, in fp32. Raises UserError where it is none, or not of safetensors."""
    require_safetensors(folder)
    if is_encoder(folder):
        raise UserError(str(folder), "an encoder, which does not continue a text", "give a decoder")
    return load_lm(folder)


def load_lm(folder: Path) -> Any:
    """The causal or masked language model of a folder, in fp32; an adapter's base with the adapter merged in."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    from zhiling.trainer.adapters import is_adapter, load_adapter

    require_safetensors(folder)
    if is_adapter(folder):
        return load_adapter(folder)
    if is_classifier(folder):
        raise UserError(str(folder), "a classifier, which has no words to say", "give a language model")
    model = load_as(AutoModelForMaskedLM if is_encoder(folder) else AutoModelForCausalLM, folder)
    _require_known(folder, model)
    return model


def _require_known(folder: Path, model: Any) -> None:
    """Raise UserError for a family that says its words in a way not known here, as by logits scaled or capped: the loss
    would be another one than the model's own.
    """
    import torch

    from zhiling.trainer.forward import hidden_states
    from zhiling.trainer.loss import below_words

    ids = torch.arange(min(8, context_of(model.config), model.get_input_embeddings().num_embeddings))
    known = False
    with torch.no_grad(), suppress(RuntimeError, TypeError, ValueError, AttributeError):
        theirs = model(input_ids=ids[None]).logits[0]
        states, words = below_words(model, hidden_states(model, ids, [0, len(ids)]))
        known = torch.allclose(words(states), theirs, rtol=1e-3, atol=1e-3, equal_nan=True)
    if not known:
        raise UserError(str(folder), f"the family '{model.config.model_type}' says its words in a way not known here",
                        "give a model whose logits are its head's product, as Llama, Qwen, GPT-2 or BERT")


def load_as(kind: Any, folder: Path, new_head: bool = False, **options: Any) -> Any:
    """The model of a folder as one of the library's kinds, in fp32. Raises UserError where weights are not there;
    with `new_head`, only where the model below the head lacks them.
    """
    import torch

    with readable(folder):
        model, about = kind.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True, **options,
        )
    missing, other = sorted(about["missing_keys"]), sorted(name for name, *_ in about["mismatched_keys"])
    if new_head:  # a pooler belongs to the head: language models are trained without
        body = f"{model.base_model_prefix}."
        own = [[n for n in names if n.startswith(body) and ".pooler." not in n] for names in (missing, other)]
        missing, other = own
    if missing:
        raise UserError(str(folder), f"no weights for {missing[0]} ({len(missing)} missing)", "give a whole model")
    if other:
        raise UserError(str(folder), f"weights of other sizes than its config says, as {other[0]}", "save it anew")
    return model


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raise UserError, in one line, for a folder that a library cannot read or that asks to run code of its own."""
    from transformers.utils import logging

    quiet()
    loud = logging.get_verbosity()
    logging.set_verbosity_error()  # its report is our one line
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries raise whatever the damage leads to
        if "trust_remote_code" in str(error):
            raise UserError(str(folder), "asks to run code of its own, which is never done",
                            "give a model that transformers knows") from None
        if "Unrecognized configuration class" in str(error):
            raise UserError(str(folder), "of a family that is not known here", f"give a decoder, or one of these "
                            f"encoders: {', '.join(sorted(ENCODERS))}") from None
        saw = f"cannot be read ({one_line(f'{type(error).__name__}: {error}', 120)})"
        raise UserError(str(folder), saw, "save it anew") from None
    finally:
        logging.set_verbosity(loud)


def load_pair(folder: Path) -> tuple[Any, Any]:
    """The language model of a folder and its tokenizer. Raises UserError where the two do not belong together."""
    from zhiling.trainer.tokenizer import load_tokenizer

    model, tokenizer = load_lm(folder), load_tokenizer(folder)
    require_fit(folder, model, tokenizer)
    return model, tokenizer


def require_fit(folder: Path, model: Any, tokenizer: Any) -> None:
    """Raise UserError where the tokenizer has tokens that the model does not know."""
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise UserError(str(folder), f"its tokenizer has {len(tokenizer)} tokens, its model knows {known}",
                        "put the model's own tokenizer beside it")


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a model of zhiling's; None for a stranger's folder, whatever it has of that name."""
    try:
        found = read_manifest(folder, "model")
    except UserError:
        return None
    return found if {"lineage", "releases", "tokens_seen"} <= found.keys() else None


def is_encoder(folder: Path) -> bool:
    """Whether the model of a folder, or the base of an adapter, reads from both sides."""
    from zhiling.trainer.adapters import base_of, is_adapter

    return _config(base_of(folder) if is_adapter(folder) else folder).get("model_type") in ENCODERS


def is_classifier(folder: Path) -> bool:
    """Whether the model of a folder has a head that labels texts or tokens."""
    names = _config(folder).get("architectures") if (folder / "config.json").is_file() else None
    return isinstance(names, list) and any(str(name).endswith(CLASSIFIERS) for name in names)


def _config(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "config.json")
    return found if isinstance(found, dict) else {}


def context_of(config: Any) -> int:
    """The longest input in tokens."""
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        raise UserError(str(config.name_or_path or config.model_type), "its config has no max_position_embeddings",
                        "give a model whose longest input is known")
    offset = int(config.pad_token_id or 0) + 1 if config.model_type in AFTER_PADDING else 0
    return longest - offset


def require_safetensors(folder: Path) -> None:
    """Raise UserError unless `folder` is a model whose weights are safetensors."""
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise UserError(str(folder), "no config.json in it", "give the folder of a transformers model")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"})
        saw = f"weights are pickled ({pickles[0]}), which can run code" if pickles else "no *.safetensors in it"
        raise UserError(str(folder), saw, "save the model as safetensors")


def quiet() -> None:
    """Keep the library's own progress bars off the terminal; ours say what is going on."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def count_parameters(model: Any) -> int:
    """Parameters of a model, tied ones counted once."""
    return sum(p.numel() for p in model.parameters())
