"""A subject, loaded as an lm-eval model: our scorer, lm-eval's own `hf`, or our masked one.

In: a subject, settings, which of a run's processes this is. Out: the model, on a GPU where there is one. Refused: what
transformers cannot load. Only what the model itself needs is imported here; lm-eval's tasks come after it.
"""

from typing import Any

from zhiling.errors import UserError, one_line
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.models import Subject

HF_BATCH = 16


def load_model(subject: Subject, settings: EvalSettings, place: int = 0) -> Any:
    """The subject as an lm-eval model, for the process at `place`. Raises UserError where it cannot be loaded."""
    import torch
    from safetensors import SafetensorError

    from zhiling.trainer.device import use_threads

    gpus = torch.cuda.device_count()
    arguments: dict[str, Any] = {
        "pretrained": subject.base or subject.source, "peft": subject.source if subject.base else None,
        "revision": subject.about.get("revision", "main"), "use_safetensors": True,
        "device": f"cuda:{place % gpus}" if gpus else "cpu", "batch_size": HF_BATCH,
    }
    try:
        made = _kind(subject, settings)(**arguments)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        do = "see that it loads in transformers' AutoModelForCausalLM and AutoTokenizer"
        raise UserError(subject.source, f"cannot be loaded ({one_line(str(error), 160)})", do) from None
    use_threads(made.model.num_parameters(), made.model.device)
    return made


def _kind(subject: Subject, settings: EvalSettings) -> Any:
    """The class to load it with, `batch_tokens` said."""
    from functools import partial

    if subject.kind == "masked":
        from zhiling.eval_tasks.masked_lm import MaskedLM

        return partial(MaskedLM, batch_tokens=settings.batch_tokens)
    if settings.backend == "hf":
        from lm_eval.models.huggingface import HFLM

        return HFLM
    from zhiling.eval_tasks.prefix_lm import PrefixLM

    return partial(PrefixLM, batch_tokens=settings.batch_tokens)
