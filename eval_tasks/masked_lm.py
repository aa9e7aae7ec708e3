"""BERT-like models as an lm-eval model, registered as `zhiling-masked`: choices at the mask, texts token by token.

In: lm-eval's requests. Out: for a choice of k tokens behind a context, the sum over its tokens of the
log-probability at the first mask, the choice's tokens before it shown and those after it masked too (so that a
word of several tokens does not give itself away); for a text, its pseudo-log-likelihood, each token masked alone.
Rows that several choices share are read once. Refused: generation, which such a model cannot do.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from torch import Tensor

from zhiling.eval_tasks.batches import batches, budget

Row = tuple[tuple[int, ...], int]  # tokens, and the place that is asked about


@register_model("zhiling-masked")
class MaskedLM(LM):  # type: ignore[misc]
    """A masked language model; takes `pretrained`, `revision`, `device`, `batch_tokens`."""

    def __init__(
        self, pretrained: str, revision: str = "main", device: str = "cpu", batch_tokens: int | None = None,
        **kwargs: Any,
    ) -> None:
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(pretrained, revision=revision)
        model: Any = AutoModelForMaskedLM.from_pretrained(pretrained, revision=revision, use_safetensors=True)
        self.model = model.to(device).eval()
        self._device = torch.device(device)
        self.batch_tokens = budget(batch_tokens, self._device)
        if self.tokenizer.mask_token_id is None:
            raise ValueError("its tokenizer has no mask token")
        whole = self.tokenizer.encode("一", add_special_tokens=True)
        bare = self.tokenizer.encode("一", add_special_tokens=False)
        at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        self._before, self._after = whole[:at], whole[at + len(bare) :]
        room = int(getattr(self.model.config, "max_position_embeddings", 512))
        offset = int(self.model.config.pad_token_id or 0) + 1 if "roberta" in self.model.config.model_type else 0
        self.max_length = min(room - offset, self.tokenizer.model_max_length)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-score of each choice at the mask, and whether each of its tokens was the likeliest there."""
        asked = [self._steps(*pair) for pair in self._encode([request.args for request in requests])]
        answers = self._ask([step for steps in asked for step in steps])
        found, at = [], 0
        for steps in asked:
            here = answers[at : at + len(steps)]
            found.append((sum(score for score, _ in here), all(best for _, best in here)))
            at += len(steps)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Pseudo-log-likelihood of each text, in windows of the model's length."""
        found = []
        for request in requests:
            tokens = self.tokenizer.encode(request.args[0], add_special_tokens=False)
            size = self.max_length - len(self._before) - len(self._after)
            windows = [tokens[i : i + size] for i in range(0, len(tokens), size)]
            steps = [
                (self._row([*w[:i], self.tokenizer.mask_token_id, *w[i + 1 :]], i), w[i])
                for w in windows for i in range(len(w))
            ]
            found.append(sum(score for score, _ in self._ask(steps)))
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """A masked model writes no texts."""
        raise NotImplementedError("a masked model writes no texts: leave generation out")

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Tokens of contexts and choices, cut as lm-eval cuts them; a context's end where all is too long."""
        cut = [(context.rstrip(), context + choice) for context, choice in pairs]
        texts = list(dict.fromkeys(text for pair in cut for text in pair))
        tokens = dict(zip(texts, self.tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
        found = []
        for context, whole in cut:
            before = tokens[context]
            after = tokens[whole][len(before) :] or tokens[whole][-1:]
            room = self.max_length - len(self._before) - len(self._after) - len(after)
            found.append((before[len(before) - min(len(before), max(room, 0)) :], after))
        return found

    def _steps(self, context: list[int], tokens: list[int]) -> list[tuple[Row, int]]:
        mask = self.tokenizer.mask_token_id
        return [
            (self._row([*context, *tokens[:i], *[mask] * (len(tokens) - i)], len(context) + i), token)
            for i, token in enumerate(tokens)
        ]

    def _row(self, tokens: Sequence[int], place: int) -> Row:
        return (*self._before, *tokens, *self._after), len(self._before) + place

    def _ask(self, steps: Sequence[tuple[Row, int]]) -> list[tuple[float, bool]]:
        """For each step, the log-probability of its token at its place, and whether it is the likeliest."""
        wanted: dict[Row, list[int]] = {}
        for i, (row, _) in enumerate(steps):
            wanted.setdefault(row, []).append(i)
        found: list[tuple[float, bool]] = [(0.0, False)] * len(steps)
        for batch in batches(wanted, lambda row: len(row[0]), self.batch_tokens):
            logprobs_BV = self._logprobs(batch)
            best = logprobs_BV.argmax(-1).tolist()
            for b, row in enumerate(batch):
                for i in wanted[row]:
                    token = steps[i][1]
                    found[i] = (float(logprobs_BV[b, token]), best[b] == token)
        return found

    def _logprobs(self, rows: Sequence[Row]) -> Tensor:
        longest = max(len(tokens) for tokens, _ in rows)
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id or 0)
        seen = torch.zeros_like(ids)
        for b, (tokens, _) in enumerate(rows):
            ids[b, : len(tokens)] = torch.tensor(tokens)
            seen[b, : len(tokens)] = 1
        places = range(len(rows)), torch.tensor([place for _, place in rows], device=self._device)

        def keep_places(module: Any, given: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[places][:, None]  # all that the output layer reads
            return output

        with torch.inference_mode(), self.model.base_model.register_forward_hook(keep_places):
            logits = self.model(input_ids=ids.to(self._device), attention_mask=seen.to(self._device)).logits
        found: Tensor = logits[:, 0].float().log_softmax(-1).cpu()
        return found
