"""Conversations as training rows: through the tokenizer's own chat template, the loss on what the assistant says.

In: release rows, with their turns or with prompt and completion as one exchange. Out: token rows, learned from where
an assistant's turn begins to the token that ends it. A tokenizer without a template gets ours (ChatML's shape). A row
too long loses the middle of its longest other turn, marked. Refused by name: rows that hold the tokenizer's own
special tokens, templates that change earlier turns when later ones come, and rows in which nothing is learned.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from zhiling.errors import UserError, one_line
from zhiling.seeds import draw
from zhiling.trainer.data import CHUNK, Encoded, cut_middle
from zhiling.trainer.tokenizer import cut_mark_of, end_of

OPEN, CLOSE = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KEPT = 8  # tokens on either side of a cut, among them the marks of the turn
Message = dict[str, str]


def with_chat(model: Any, tokenizer: Any, seed: int, whole: bool = True) -> None:
    """Give a tokenizer without a chat template ours, and the model its two new tokens; `seed` draws their vectors.

    Raises UserError where these would stay as drawn, since not the `whole` model is trained.
    """
    import torch

    if tokenizer.chat_template:
        return
    if not whole:
        raise UserError("train: adapter", "the chat template's two tokens are new, and an adapter would not learn them",
                        "train the whole model on chat rows first")
    tokenizer.add_special_tokens({"additional_special_tokens": [OPEN, CLOSE]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = TEMPLATE
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw(seed, "chat", OPEN) >> 1)
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def ends_of(tokenizer: Any) -> list[int]:
    """The tokens at which generation stops: the text's end, and the end of an assistant's turn."""
    ends = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    if tokenizer.chat_template and CLOSE in tokenizer.chat_template and CLOSE in tokenizer.get_vocab():
        ends.append(tokenizer.convert_tokens_to_ids(CLOSE))
    return [int(end) for end in dict.fromkeys(ends)]


def encode_chat(rows: pa.Table, tokenizer: Any, context: int, whole: bool) -> Iterator[Encoded | dict[str, Any]]:
    """Rows as tokens, learned in the assistant's turns (`whole`: everywhere); a dict for a row refused."""
    mark, special = cut_mark_of(tokenizer), sorted(tokenizer.all_special_tokens)
    for chunk in rows.select(["id", "prompt", "completion", "messages"]).to_batches(max_chunksize=CHUNK):
        for row in chunk.to_pylist():
            messages = turns(row)
            held = next((token for token in special if any(token in m["content"] for m in messages)), None)
            if held is not None:
                yield {"id": row["id"], "reason": f"holds the tokenizer's special token {held}"}
                continue
            tokens, learned = encode_turns(row["id"], messages, tokenizer)
            if len(tokens) > context:
                cut = _cut(tokens, learned, context, mark)
                if cut is None:
                    yield {"id": row["id"], "reason": f"{len(tokens)} tokens cannot be cut to {context}"}
                    continue
                tokens, learned = cut
            yield Encoded(row["id"], tokens, 0 if whole else learned)


def turns(row: dict[str, Any]) -> list[Message]:
    """A row as a conversation that ends with the answer."""
    if row["messages"]:
        return [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
    said = {"role": "assistant", "content": row["completion"].strip()}
    return [{"role": "user", "content": row["prompt"]}, said]


def encode_turns(key: str, messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[bool]]:
    """A conversation's tokens, and which of them the assistant says, the end of its turn among them.

    Raises UserError, naming the row, where no turn is the assistant's or the template cannot be parted by turns.
    """
    text = _render(key, messages, tokenizer)
    said = []
    for n, message in enumerate(messages):
        if message["role"] == "assistant":
            before = _render(key, messages[:n], tokenizer, add_generation_prompt=True) if n else ""
            after = _render(key, messages[: n + 1], tokenizer)
            if not (after.startswith(before) and text.startswith(after.rstrip())):
                raise UserError(f"row {key}", f"its turn {n + 1} reads otherwise once others follow",
                                "use a chat template that leaves earlier turns as they are")
            said.append((len(before), len(after.rstrip())))
    if not said:
        raise UserError(f"row {key}", "no token of it is learned: no turn is the assistant's", "leave the row out")
    found = tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    places = found["offset_mapping"]
    tokens, learned = found["input_ids"], [any(start < b and end > a for a, b in said) for start, end in places]
    if messages[-1]["role"] == "assistant" and not text.rstrip().endswith(tuple(tokenizer.all_special_tokens)):
        return [*tokens, end_of(tokenizer)], [*learned, True]  # a template that does not close the last turn
    return tokens, learned


def _render(key: str, messages: Sequence[Message], tokenizer: Any, **options: bool) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options))
    except (TemplateError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"row {key}", f"the chat template does not take it ({one_line(str(error), 100)})",
                        "use another template, or leave the row out") from None


def _cut(tokens: list[int], learned: list[bool], context: int, mark: int) -> tuple[list[int], list[bool]] | None:
    """The row within `context` tokens, the middle of its longest unlearned stretch cut; None where none is enough."""
    edges = [0, *(i for i in range(1, len(learned)) if learned[i] != learned[i - 1]), len(learned)]
    runs = [(b - a, a, b) for a, b in pairwise(edges) if not learned[a]]
    length, a, b = max(runs, default=(0, 0, 0))
    room = length - (len(tokens) - context)
    if room < 2 * KEPT + 1:
        return None
    inner = cut_middle(tokens[a:b], room, mark)
    return [*tokens[:a], *inner, *tokens[b:]], [*learned[:a], *[False] * len(inner), *learned[b:]]
