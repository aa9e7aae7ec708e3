"""lm-eval's Hugging Face model, computing what prompts share once; registered with lm-eval as `zhiling`.

In: lm-eval's requests. Out: the same log-likelihoods and the same texts as its `hf` model, sooner: a context is
read once for all its continuations (a tree mask keeps them apart), a prefix that many contexts share (fixed
shots) once for all of them, the output layer runs only where a token is scored, and a batch is as many rows as a
budget of tokens holds. What this cannot do for a model (recurrent states, encoders, prompts beyond the context)
goes to `hf`'s own way; a trial on the model itself decides, not its name.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from torch import Tensor

from zhiling.console import note
from zhiling.eval_tasks.batches import ON_ACCELERATOR, batches, budget
from zhiling.eval_tasks.cache import Prefix, cache_of, prefix_of
from zhiling.eval_tasks.encoding import encode_pairs
from zhiling.eval_tasks.generating import end_tokens, generate, is_greedy
from zhiling.eval_tasks.prefixes import group_contexts
from zhiling.eval_tasks.tree import Tree, plant

Score = tuple[float, bool]
Request = tuple[tuple[str, str] | None, list[int], list[int]]
HEAD_NUMBERS = 2**25      # logits held at once
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}  # of the trial; half precision rounds more coarsely
HALF_TOLERANCE = 0.1


@dataclass(frozen=True)
class Row:
    """A context's tree and the requests that its continuations answer."""

    tree: Tree
    requests: tuple[int, ...]


@register_model("zhiling")
class PrefixLM(HFLM):  # type: ignore[misc]
    """`hf` with shared contexts. Takes `hf`'s arguments and `batch_tokens`, the tokens in one pass."""

    def __init__(self, pretrained: Any, batch_tokens: int | None = None, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.batch_tokens = budget(batch_tokens, self.device)
        self.cache_tokens = int(batch_tokens or ON_ACCELERATOR)  # while texts grow: each step wants many rows
        self._shares: bool | None = None

    @property
    def shares(self) -> bool:
        """Whether a trial on this model gave the numbers of `hf`."""
        if self._shares is None:
            self._shares = self._trial()
            if not self._shares:
                note("this model's contexts cannot be shared; scoring as lm-eval's hf does")
        return self._shares

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Score]:
        """Log-likelihood of each continuation, and whether it is the greedy one."""
        pairs: list[Request] | None = encode_pairs(self, [request.args for request in requests])
        if pairs is None:
            found: list[Score] = super().loglikelihood(requests, disable_tqdm=True)
            return found
        return self._loglikelihood_tokens(pairs, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: list[Request], disable_tqdm: bool = True, **kwargs: Any) -> list[Score]:
        """Score encoded requests: those that fit into the context window together, the others as `hf` does."""
        most = min(self.max_length + 1, self.window)
        fits = [i for i, (_, c, k) in enumerate(requests) if c and k and len(c) + len(k) <= most]
        if self.backend != "causal" or not fits or not self.shares:
            rest: list[Score] = super()._loglikelihood_tokens(requests, disable_tqdm=True, **kwargs)
            return rest
        scores: dict[int, Score] = self._score([requests[i][1:] for i in fits], fits)
        others = sorted(set(range(len(requests))) - set(fits))
        if others:
            long = super()._loglikelihood_tokens([requests[i] for i in others], disable_tqdm=True, **kwargs)
            scores |= dict(zip(others, long, strict=True))
        for i in fits:
            if requests[i][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[i][0], scores[i])
        return [scores[i] for i in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """What the model says after each context; greedy requests share prefixes, others go to `hf`'s own way."""
        texts: dict[int, str] = {}
        by_arguments: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            by_arguments.setdefault(repr(request.args[1]), []).append(i)
        for members in by_arguments.values():
            asked = [requests[i] for i in members]
            found = self._generate(asked) or super().generate_until(asked, disable_tqdm=True)
            texts |= dict(zip(members, found, strict=True))
        return [texts[i] for i in range(len(requests))]

    def _generate(self, requests: list[Instance]) -> list[str] | None:
        """Texts of requests with the same arguments; None where `hf` has to do it."""
        kwargs = normalize_gen_kwargs(requests[0].args[1], self.max_gen_toks)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        stops = handle_stop_sequences(kwargs.get("until"), eos=eos)
        contexts = [self.tok_encode(request.args[0]) for request in requests]
        most = int(kwargs["max_gen_toks"])
        fits = all(0 < len(c) <= min(self.max_length, self.window) - most for c in contexts)
        if not fits or self.think_end_token is not None or not is_greedy(self, kwargs) or not self.shares:
            return None
        found = generate(self, contexts, stops, most)
        for request, text in zip(requests, found, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return found

    def _trial(self) -> bool:
        """Score a few made-up requests both ways."""
        top = min(self.vocab_size, 500)
        start = [(7 * i) % top for i in range(40)]
        contexts = [[*start, *((11 * i + j) % top for i in range(5 + j))] for j in range(12)]
        tails = [[3, 5], [3, 5, 8], [9], [2, 4, 6]]
        requests: list[Request] = [(None, c, [t % top for t in k]) for c in contexts for k in tails]
        fits = [r for r in requests if len(r[1]) + len(r[2]) <= self.max_length]
        if self.backend != "causal" or not fits:
            return False
        try:
            ours = self._score([r[1:] for r in fits], range(len(fits)))
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError, NotImplementedError):
            return False
        theirs = super()._loglikelihood_tokens(fits, disable_tqdm=True, override_bs=len(fits))
        most = TOLERANCE.get(self.model.dtype, HALF_TOLERANCE)
        return all(abs(ours[i][0] - score) <= most for i, (score, _) in enumerate(theirs))

    def _score(self, requests: Sequence[tuple[list[int], list[int]]], ids: Sequence[int]) -> dict[int, Score]:
        """Scores by the request's id."""
        by_context: dict[tuple[int, ...], list[tuple[list[int], int]]] = {}
        for (context, continuation), i in zip(requests, ids, strict=True):
            by_context.setdefault(tuple(context), []).append((continuation, i))
        contexts = list(by_context)
        scores: dict[int, Score] = {}
        with torch.inference_mode():
            for group in group_contexts(contexts):
                prefix = contexts[group.members[0]][: group.prefix]
                rows = []
                for m in group.members:
                    asked = by_context[contexts[m]]
                    tree = plant(contexts[m][group.prefix :], [tokens for tokens, _ in asked])
                    rows.append(Row(tree, tuple(i for _, i in asked)))
                shared = self._read_prefix(prefix) if prefix else None
                for batch in batches(rows, lambda row: len(row.tree), self.batch_tokens, len(prefix) // 8):
                    self._score_batch(batch, len(prefix), shared, scores)
        return scores

    def _read_prefix(self, prefix: tuple[int, ...]) -> Prefix:
        """Keys and values of the prefix, layer by layer."""
        cache = cache_of(self.layers, None, 1, len(prefix))
        self.hidden(torch.tensor([prefix], device=self.device), cache=cache)
        return prefix_of(cache)

    def _score_batch(
        self, rows: list[Row], prefix: int, shared: Prefix | None, scores: dict[int, Score]
    ) -> None:
        """One pass: fill in the scores of the rows' requests."""
        ids, positions, mask = _tensors(rows, prefix, self.device)
        room = prefix + ids.shape[1]
        cache = cache_of(self.layers, shared, len(rows), room) if shared else None
        places = sorted({(b, at) for b, row in enumerate(rows) for steps in row.tree.steps for at, _ in steps})
        index = {place: n for n, place in enumerate(places)}
        at_b, at_t = torch.tensor(places, device=self.device).T
        with self._last_mlp_only_at(at_b, at_t):
            hidden_BTD = self.hidden(ids, positions, mask, cache)
        steps = [
            (index[b, at], token, request)
            for b, row in enumerate(rows)
            for path, request in zip(row.tree.steps, row.requests, strict=True)
            for at, token in path
        ]
        n, token, _ = torch.tensor(steps, device=self.device).T
        logprob, best = self._head(hidden_BTD[at_b, at_t], n, token)
        for (_, _, request), value, greedy in zip(steps, logprob.tolist(), best.tolist(), strict=True):
            total, all_greedy = scores.get(request, (0.0, True))
            scores[request] = (total + value, all_greedy and greedy)

    @contextmanager
    def _last_mlp_only_at(self, at_b: Tensor, at_t: Tensor) -> Iterator[None]:
        """Nothing reads what the last layer's MLP makes of other tokens: it works on each token alone."""
        shape: list[torch.Size] = []

        def take(module: Any, given: tuple[Tensor, ...]) -> Tensor:
            shape.append(given[0].shape)
            return given[0][at_b, at_t]

        def put_back(module: Any, given: Any, made: Tensor) -> Tensor:
            whole = made.new_zeros(shape.pop())
            whole[at_b, at_t] = made
            return whole

        with ExitStack() as hooks:
            for mlp in self._last_mlp:
                hooks.enter_context(mlp.register_forward_pre_hook(take))
                hooks.enter_context(mlp.register_forward_hook(put_back))
            yield

    @cached_property
    def _last_mlp(self) -> list[Any]:
        """The last layer's MLP where it is a plain one (no experts), else nothing."""
        modules = self._decoder.named_modules()
        name = f".{self.layers - 1}.mlp"
        return [m for at, m in modules if at.endswith(name) and type(m).__name__.endswith("MLP")][:1]

    def hidden(
        self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        """The last hidden states; the output layer is left out."""
        with torch.inference_mode(), self._autocast():
            out = self._decoder(
                input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=cache is not None,
                **({} if cache is None else {self._cache_name: cache}),
            )
        hidden: Tensor = out.last_hidden_state
        return hidden

    @cached_property
    def _cache_name(self) -> str:
        """What this version of transformers calls the cache."""
        return "cache" if "cache" in signature(self._decoder.forward).parameters else "past_key_values"

    @property
    def _decoder(self) -> Any:
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return model.base_model

    def logits(self, states: Tensor) -> Tensor:
        """The output layer."""
        with self._autocast():
            found: Tensor = self.model.get_output_embeddings()(states)
        return found

    @cached_property
    def window(self) -> int:
        """Beyond how many tokens some layer no longer sees the first one; our masks know of no such layer."""
        config = self.model.config.get_text_config()
        sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
        return min([size for size in sizes if size], default=sys.maxsize)

    @cached_property
    def layers(self) -> int:
        """How many layers the model's cache has."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens at which generation stops."""
        return end_tokens(self)

    def _head(self, states: Tensor, n: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each `token` at the n-th state, and whether it is the likeliest there."""
        size = max(1, HEAD_NUMBERS // self.vocab_size)
        norm, best = [], []
        chosen = torch.empty(len(n), dtype=torch.float32, device=states.device)
        for start in range(0, len(states), size):
            logits_NV = self.logits(states[start : start + size])
            here = (n >= start) & (n < start + size)
            chosen[here] = logits_NV[n[here] - start, token[here]].float()
            norm.append(logits_NV.float().logsumexp(-1))
            best.append(logits_NV.argmax(-1))
        return chosen - torch.cat(norm)[n], torch.cat(best)[n] == token

    def _autocast(self) -> Any:
        mixed = self.mixed_precision_dtype
        return torch.autocast(device_type=self.device.type, dtype=mixed, enabled=mixed is not None)


def _tensors(rows: list[Row], prefix: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a batch reads: ids, positions and, where causal order is not enough, who sees whom."""
    longest = max(len(row.tree) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    positions = torch.zeros(len(rows), longest, dtype=torch.long)
    causal = not prefix and not any(row.tree.tails for row in rows)  # padding on the right is never seen
    mask = None if causal else torch.zeros(len(rows), 1, longest, prefix + longest, dtype=torch.bool)
    for b, row in enumerate(rows):
        tree, n = row.tree, len(row.tree)
        ids[b, :n] = torch.tensor(tree.context + tree.tails)
        positions[b, :n] = torch.tensor(tree.positions) + prefix
        if mask is not None:
            mask[b, 0, :, :prefix] = True
            mask[b, 0, :n, prefix : prefix + n] = torch.from_numpy(tree.sight())
    if mask is not None:
        mask[:, 0, range(longest), range(prefix, prefix + longest)] = True  # padding sees itself: no empty row
        mask = mask.to(device)
    return ids.to(device), positions.to(device), mask
