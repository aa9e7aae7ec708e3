"""What a causal model thinks of answers: log-likelihoods of completions, and free text by greedy decoding.

In: a model, its tokenizer, prompts and completions. Out: one log-likelihood a pair, as lm-eval computes it:
encoded together, parted at the prompt's own length, a prompt too long cut from the left.
"""

from collections.abc import Sequence
from typing import Any

import torch

from zhiling.trainer.forward import hidden_states

BATCH_TOKENS = 8192


def log_likelihoods(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The log-likelihood of each completion after its prompt."""
    context = model.config.max_position_embeddings
    prompts, texts = [p for p, _ in pairs], [p + c for p, c in pairs]
    if not pairs:
        return []
    cuts = [len(ids) for ids in tokenizer(prompts, add_special_tokens=False, verbose=False)["input_ids"]]
    rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    scores = [0.0] * len(pairs)
    with torch.inference_mode():
        for members in _batches([min(len(row), context + 1) for row in rows]):
            width = max(min(len(rows[i]), context + 1) for i in members) - 1
            ids_BT = torch.full((len(members), width), tokenizer.eos_token_id)
            for b, i in enumerate(members):
                kept = rows[i][-(context + 1) :][:-1]
                ids_BT[b, : len(kept)] = torch.tensor(kept)
            hidden_BTD = hidden_states(model, ids_BT.to(model.device))
            for b, i in enumerate(members):
                gone = max(0, len(rows[i]) - context - 1)
                start = max(1, cuts[i] - gone)
                target = torch.tensor(rows[i][gone + start :], device=model.device)[:, None]
                logits = model.get_output_embeddings()(hidden_BTD[b, start - 1 : len(rows[i]) - gone - 1])
                scores[i] = float(logits.float().log_softmax(-1).gather(1, target).sum())
    return scores


def generate(model: Any, tokenizer: Any, prompts: Sequence[str], longest: int = 128) -> list[str]:
    """A greedy continuation of each prompt."""
    found = []
    for prompt in prompts:
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False, return_tensors="pt")["input_ids"]
        room = max(1, model.config.max_position_embeddings - longest)
        ids = ids[:, -room:].to(model.device)
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=longest, do_sample=False)
        found.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return found


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in batches of like length, the longest first, each within the token budget."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= BATCH_TOKENS:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
