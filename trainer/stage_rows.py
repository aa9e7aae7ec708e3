"""What a stage learns of a release's rows, by the kind of model: texts, conversations, or answers at masks.

In: rows, a model with its tokenizer, the stage's settings. Out: global batches over token rows in a folder.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa

from zhiling.errors import UserError
from zhiling.trainer.batches import Drawn
from zhiling.trainer.config import InstructSettings
from zhiling.trainer.data import encode_examples, write_rows
from zhiling.trainer.model import ENCODERS, context_of
from zhiling.trainer.tokenizer import pad_of, require_mask


def drawn_rows(folder: Path, table: pa.Table, model: Any, tokenizer: Any, own: InstructSettings, seed: int) -> Drawn:
    """The batches of `table`, whose tokens are written to `folder` unless they are there."""
    prompt = own.adapter.virtual_tokens if own.adapter and own.adapter.method == "prompt" else 0
    context, pad, whole = context_of(model.config) - prompt, pad_of(tokenizer), own.loss_on == "prompt_and_completion"
    if model.config.model_type in ENCODERS:
        from zhiling.trainer.cloze import Cloze, encode_cloze

        if own.chat or whole:
            asked = "chat" if own.chat else "loss_on prompt_and_completion"
            raise UserError(f"train: {asked}", "the model is an encoder, which learns answers at masks only",
                            "leave it out, or give a decoder")
        require_mask(tokenizer)
        rows = write_rows(folder, encode_cloze(table, tokenizer, context), len(tokenizer))
        return Cloze(rows, own.batch_rows, seed, pad, own.average, tokenizer.mask_token_id)
    if own.chat:
        from zhiling.trainer.chat import encode_chat

        encoded = encode_chat(table, tokenizer, context, whole)
    else:
        encoded = encode_examples(table, tokenizer, context, whole)
    return Drawn(write_rows(folder, encoded, len(tokenizer)), own.batch_rows, seed, pad, own.average)
