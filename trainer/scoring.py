"""What a model thinks of answers: log-likelihoods of completions, and a decoder's free text by greedy decoding.

In: a model, its tokenizer, prompts and completions. Out: one log-likelihood a pair, as lm-eval computes it:
encoded together, parted at the prompt's own length, a prompt too long cut from the left. An encoder is asked at masks.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import Any

import torch

from zhiling.errors import UserError
from zhiling.trainer.batches import ROUND
from zhiling.trainer.forward import hidden_states
from zhiling.trainer.model import ENCODERS

TOKENS = 8192  # at once


def log_likelihoods(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The log-likelihood of each completion after its prompt."""
    if not pairs:
        return []
    if model.config.model_type in ENCODERS:
        from zhiling.trainer.cloze import scores_at_masks

        return scores_at_masks(model, tokenizer, pairs)
    context = model.config.max_position_embeddings
    encoded = tokenizer([p for p, _ in pairs] + [p + c for p, c in pairs], add_special_tokens=False, verbose=False)
    prompts, wholes = encoded["input_ids"][: len(pairs)], encoded["input_ids"][len(pairs) :]
    gone = [max(0, len(whole) - context - 1) for whole in wholes]
    rows = [whole[g:] for whole, g in zip(wholes, gone, strict=True)]
    cuts = [max(1, len(prompt) - g) for prompt, g in zip(prompts, gone, strict=True)]
    readers: dict[tuple[int, ...], list[int]] = {}  # choices of one token are read from one and the same input
    for i, row in enumerate(rows):
        readers.setdefault(tuple(row[:-1]), []).append(i)
    inputs = list(readers)
    scores = [0.0] * len(pairs)
    with torch.inference_mode():
        for members, starts, ids in end_to_end(inputs, model.device):
            hidden_ND = hidden_states(model, ids, starts)
            for start, n in zip(starts, members, strict=False):
                for i in readers[inputs[n]]:
                    target = torch.tensor(rows[i][cuts[i] :], device=model.device)[:, None]
                    logits = model.get_output_embeddings()(hidden_ND[start + cuts[i] - 1 : start + len(rows[i]) - 1])
                    scores[i] = float(logits.float().log_softmax(-1).gather(1, target).sum())
    return scores


def generate(model: Any, tokenizer: Any, prompts: Sequence[str], longest: int = 128) -> list[str]:
    """A greedy continuation of each prompt, of at most `longest` tokens and half the context: the prompt has the rest.

    Raises UserError for a model that writes no texts.
    """
    if model.config.model_type in ENCODERS:
        raise UserError(str(model.name_or_path), "an encoder, which does not continue a text", "give a decoder")
    found = []
    longest = min(longest, model.config.max_position_embeddings // 2)
    for prompt in prompts:
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False, return_tensors="pt")["input_ids"]
        room = max(1, model.config.max_position_embeddings - longest)
        ids = ids[:, -room:].to(model.device)
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=longest, do_sample=False)
        found.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return found


def end_to_end(inputs: Sequence[Sequence[int]], device: Any) -> Iterator[tuple[list[int], list[int], torch.Tensor]]:
    """Inputs in batches of like length, the longest first: which they are, where each begins, and their tokens."""
    for members in _like_lengths([len(tokens) for tokens in inputs]):
        starts = list(accumulate((len(inputs[i]) for i in members), initial=0))
        filling = [0] * (-starts[-1] % ROUND)
        yield members, starts, torch.tensor([*chain(*(inputs[i] for i in members)), *filling], device=device)


def _like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Indices by falling length, in batches within the token budget."""
    batches: list[list[int]] = []
    room = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[i] > room or not batches:
            batches.append([])
            room = TOKENS
        batches[-1].append(i)
        room -= lengths[i]
    return batches
