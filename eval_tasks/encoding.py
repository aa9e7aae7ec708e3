"""Pairs of context and continuation to tokens, exactly as lm-eval cuts them, each context encoded once.

lm-eval encodes `context + continuation` whole for every choice and cuts it at the length of the context's own
encoding. Here only the context's last line is encoded again with each choice: tokenizers split a text into
pieces before they look at any, so what stands before a line end has no part in what follows it. That is checked
on every context (its last line alone must give its last tokens) and on some whole pairs; where a tokenizer does
otherwise, None is returned and lm-eval's own way is taken.
"""

from collections.abc import Sequence
from typing import Any

Pair = tuple[str, str]
Options = tuple[tuple[str, bool], ...]
Encoded = tuple[Pair | None, list[int], list[int]]
CHECKED = 16      # pairs that are encoded whole too
LEAST = 8         # characters that the line begins before the context's end
BATCH = 4096


def encode_pairs(lm: Any, pairs: Sequence[Pair]) -> list[Encoded] | None:
    """`(pair, context's tokens, continuation's tokens)` of each pair; None where this tokenizer needs lm-eval's way."""
    tokenizer = lm.tokenizer
    bos = tokenizer.decode([lm.prefix_token_id]) if lm.prefix_token_id is not None else None
    if lm.backend != "causal" or not getattr(tokenizer, "is_fast", False):
        return None
    moved = [_move_spaces(*pair) for pair in pairs]
    if not all(c and (not bos or not c.startswith(bos)) for c, _ in moved):
        return None
    contexts = list(dict.fromkeys(c for c, _ in moved))
    special: Options = () if lm.add_bos_token is None else (("add_special_tokens", lm.add_bos_token),)
    whole = dict(zip(contexts, _encode(tokenizer, contexts, special), strict=True))
    lines = {c: c[_cut(c) :] for c in contexts}
    bare: Options = (("add_special_tokens", False),)
    alone = {c: special if line == c else bare for c, line in lines.items()}
    ends = _encode_each(tokenizer, [(lines[c], alone[c]) for c in contexts])
    end = dict(zip(contexts, ends, strict=True))
    if any(whole[c][len(whole[c]) - len(end[c]) :] != end[c] for c in contexts):
        return None
    asked = list(dict.fromkeys(moved))
    joined = _encode_each(tokenizer, [(lines[c] + k, alone[c]) for c, k in asked])
    tails = {pair: tokens[len(end[pair[0]]) :] for pair, tokens in zip(asked, joined, strict=True)}
    step = max(1, len(asked) // CHECKED)
    for c, k in asked[::step]:
        if tokenizer.encode(c + k, **dict(special))[len(whole[c]) :] != tails[c, k]:
            return None
    return [(pair, whole[c], tails[c, k]) for pair, (c, k) in zip(pairs, moved, strict=True)]


def _move_spaces(context: str, continuation: str) -> Pair:
    """Spaces at the context's end belong to the continuation, as in lm-eval."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def _cut(context: str) -> int:
    """Where the line begins that is encoded again: after a line end with some text behind it; 0 for all."""
    at = context.rfind("\n", 0, max(0, len(context) - LEAST)) + 1
    return at if at < len(context) and not context[at].isspace() else 0


def _encode_each(tokenizer: Any, texts: Sequence[tuple[str, Options]]) -> list[list[int]]:
    """Tokens of each text with its own options: equal ones are encoded once, those of equal options in one call."""
    kinds: dict[Options, list[str]] = {}
    for text, options in dict.fromkeys(texts):
        kinds.setdefault(options, []).append(text)
    found = {
        (text, options): tokens
        for options, those in kinds.items()
        for text, tokens in zip(those, _encode(tokenizer, those, options), strict=True)
    }
    return [found[text] for text in texts]


def _encode(tokenizer: Any, texts: Sequence[str], options: Options) -> list[list[int]]:
    found: list[list[int]] = []
    for start in range(0, len(texts), BATCH):
        part = list(texts[start : start + BATCH])
        found += tokenizer(part, return_attention_mask=False, return_token_type_ids=False, **dict(options))["input_ids"]
    return found
