"""Greedy generation with a shared prefix: the texts of lm-eval's `hf`, sooner.

In: contexts and lm-eval's generation arguments. Out: a text for each. A prefix that contexts share is read once,
a row that is done leaves its batch, keys and values are written in place. Sampling, penalties and whatever else
asks for more than the likeliest token goes to `hf`'s own way.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zhiling.eval_tasks.batches import batches
from zhiling.eval_tasks.cache import Prefix, cache_of, prefix_of
from zhiling.eval_tasks.prefixes import group_contexts

PLAIN = frozenset({  # what a generation config may say without changing greedy decoding
    "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config", "do_sample",
    "temperature", "top_k", "top_p", "min_p", "typical_p", "max_length", "max_new_tokens", "use_cache",
    "output_attentions", "output_hidden_states", "return_dict_in_generate", "cache_implementation",
})
TAIL = 24  # tokens that are decoded to look for a stop text


def is_greedy(lm: Any, kwargs: dict[str, Any]) -> bool:
    """Whether these arguments, with the model's own settings, ask for the likeliest token each time."""
    allowed = {"until", "max_gen_toks", "do_sample", "temperature"}
    if kwargs.keys() - allowed or kwargs.get("do_sample") or kwargs.get("temperature", 0.0) != 0.0:
        return False
    return bool(lm.model.generation_config.to_diff_dict().keys() <= PLAIN)


def generate(lm: Any, contexts: Sequence[list[int]], stops: Sequence[str], most: int) -> list[str]:
    """What the model says after each context (token ids), at most `most` tokens and up to a stop text."""
    from lm_eval.models.utils import postprocess_generated_text

    texts = [""] * len(contexts)
    with torch.inference_mode():
        for group in group_contexts(contexts):
            shared = contexts[group.members[0]][: group.prefix]
            prefix = None
            if shared:
                cache = cache_of(lm.layers, None, 1, len(shared))
                lm.hidden(torch.tensor([shared], device=lm.device), cache=cache)
                prefix = prefix_of(cache)
            tails = [(i, contexts[i][group.prefix :]) for i in group.members]
            more = group.prefix // 8 + most // 4
            for batch in batches(tails, lambda tail: len(tail[1]), lm.cache_tokens, more):
                found = _decode(lm, [tokens for _, tokens in batch], prefix, group.prefix, stops, most)
                for (i, _), tokens in zip(batch, found, strict=True):
                    texts[i] = postprocess_generated_text(lm.tok_decode(tokens), stop=list(stops), think_end_token=None)
    return texts


def _decode(
    lm: Any, rows: list[list[int]], prefix: Prefix | None, shared: int, stops: Sequence[str], most: int
) -> list[list[int]]:
    """The tokens that follow each row, up to and with its end token or a stop text."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    pads = torch.tensor([longest - len(row) for row in rows])
    for b, row in enumerate(rows):
        ids[b, longest - len(row) :] = torch.tensor(row)
    room = shared + longest + most
    cache = cache_of(lm.layers, prefix, len(rows), room)
    seen = torch.ones(len(rows), room, dtype=torch.bool)
    for b, pad in enumerate(pads.tolist()):
        seen[b, shared : shared + pad] = False
    seen, pads, ids = seen.to(lm.device), pads.to(lm.device), ids.to(lm.device)
    places = torch.arange(longest, device=lm.device)
    positions = (shared + places - pads[:, None]).clamp(min=0)
    causal = places[:, None] >= places[None, :]
    mask = seen[:, None, None, : shared + longest].repeat(1, 1, longest, 1)
    mask[..., shared:] &= causal
    mask[..., range(longest), range(shared, shared + longest)] = True  # padding sees itself: no empty row
    said: list[list[int]] = [[] for _ in rows]
    alive = list(range(len(rows)))
    for step in range(most):
        logits = lm.logits(lm.hidden(ids, positions, mask, cache)[:, -1])
        tokens = logits.argmax(-1)
        for b, token in zip(alive, tokens.tolist(), strict=True):
            said[b].append(token)
        going = [n for n, b in enumerate(alive) if not _done(lm, said[b], stops)]
        if not going or step == most - 1:
            break
        positions = positions[:, -1:] + 1
        if len(going) < len(alive):
            kept = torch.tensor(going, device=lm.device)
            for layer in cache.layers:
                layer.keep(kept)
            tokens, positions, seen = tokens[kept], positions[kept], seen[kept]
            alive = [alive[n] for n in going]
        ids = tokens[:, None]
        mask = seen[:, None, None, : shared + longest + step + 1]
    return said


def _done(lm: Any, tokens: list[int], stops: Sequence[str]) -> bool:
    if tokens[-1] in lm.end_tokens:
        return True
    tail = lm.tok_decode(tokens[-TAIL:], skip_special_tokens=False)
    return any(stop and stop in tail for stop in stops)


def end_tokens(lm: Any) -> frozenset[int]:
    """The tokens at which the model's own generation stops."""
    found = lm.model.generation_config.eos_token_id
    if found is None:
        return frozenset()
    return frozenset(found.tolist() if isinstance(found, Tensor) else found if isinstance(found, list) else [found])
