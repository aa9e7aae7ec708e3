"""Instruction rows for masked models: the answer stands at masks behind its prompt, and is guessed token by token.

In: release rows with choices, or prompts with completions. Out: token rows and global batches, or log-scores. An
answer of k tokens is read k times: at step i its tokens before i are shown, those from i on are masked, and token i is
asked for. That is how `zhiling eval` scores a masked model, so training raises exactly the score. Rows without choices
are refused by name: such a model writes no texts.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from zhiling.trainer.batches import Average, Drawn, Row
from zhiling.trainer.data import CHUNK, Encoded, Rows, cut_middle
from zhiling.trainer.model import context_of
from zhiling.trainer.tokenizer import cut_mark_of, frame_of, require_mask


def encode_cloze(rows: pa.Table, tokenizer: Any, context: int) -> Iterator[Encoded | dict[str, Any]]:
    """Rows as tokens, learned in the answer; a dict for a row refused. A prompt too long loses its middle."""
    (before, after), mark = frame_of(tokenizer), cut_mark_of(tokenizer)
    for chunk in rows.select(["id", "prompt", "completion", "choices"]).to_batches(max_chunksize=CHUNK):
        for row in chunk.to_pylist():
            if not row["choices"]:
                yield {"id": row["id"], "reason": "no choices, and a masked model writes no texts"}
                continue
            prompt, answer = part(tokenizer, row["prompt"], row["completion"])
            room = context - len(before) - len(after) - len(answer)
            if len(prompt) > room < 2:
                yield {"id": row["id"], "reason": f"completion of {len(answer)} tokens leaves no room in {context}"}
                continue
            head = [*before, *cut_middle(prompt, room, mark)]
            flags = [False] * len(head) + [True] * len(answer) + [False] * len(after)
            yield Encoded(row["id"], [*head, *answer, *after], flags)


def part(tokenizer: Any, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Tokens of prompt and completion, encoded together and parted as lm-eval parts them: spaces at the prompt's end
    go with the completion.
    """
    bare = prompt.rstrip()
    before = tokenizer(bare, add_special_tokens=False, verbose=False)["input_ids"]
    whole = tokenizer(prompt + completion, add_special_tokens=False, verbose=False)["input_ids"]
    return before, whole[len(before) :] or whole[-1:]


def scores_at_masks(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The log-score of each completion at masks behind its prompt, a prompt too long cut from the left."""
    import torch

    from zhiling.trainer.forward import hidden_states
    from zhiling.trainer.loss import below_words
    from zhiling.trainer.scoring import end_to_end

    require_mask(tokenizer)
    (before, after), hide = frame_of(tokenizer), tokenizer.mask_token_id
    asked: dict[tuple[tuple[int, ...], int], list[tuple[int, int]]] = {}  # an input and a place -> pairs and tokens
    for i, (prompt, completion) in enumerate(pairs):
        head, answer = part(tokenizer, prompt, completion)
        room = context_of(model.config) - len(before) - len(after) - len(answer)
        head = [*before, *head[len(head) - min(len(head), max(room, 0)) :]]
        for n, token in enumerate(answer):
            read = (*head, *answer[:n], *[hide] * (len(answer) - n), *after)
            asked.setdefault((read, len(head) + n), []).append((i, token))
    found, inputs = [0.0] * len(pairs), list(asked)
    with torch.inference_mode():
        for members, starts, ids in end_to_end([tokens for tokens, _ in inputs], model.device):
            at = torch.tensor([s + inputs[m][1] for s, m in zip(starts, members, strict=False)], device=model.device)
            hidden_MD, words = below_words(model, hidden_states(model, ids, starts, at))
            logprobs_MV = words(hidden_MD).float().log_softmax(-1)
            for row, m in zip(logprobs_MV, members, strict=True):
                for i, token in asked[inputs[m]]:
                    found[i] += float(row[token])
    return found


class Cloze(Drawn):
    """A keyed draw of rows for each batch; each row as its steps, which together weigh as one."""

    def __init__(self, rows: Rows, batch_rows: int, seed: int, pad: int, average: Average, hide: int) -> None:
        super().__init__(rows, batch_rows, seed, pad, average)
        self.hide = hide

    def parts(self, member: int) -> list[Row]:
        """The steps of one row."""
        row = self.row(member)
        answer = np.flatnonzero(row.learned)
        steps = []
        for n, place in enumerate(answer):
            tokens = row.tokens.copy()
            tokens[answer[n:]] = self.hide
            asked = np.zeros(len(tokens), bool)
            asked[place] = True
            steps.append(Row(tokens, asked, row.names, row.tokens, 1 / len(answer)))
        return steps
