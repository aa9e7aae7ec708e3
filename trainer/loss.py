"""Losses over supervised positions only: hidden states are gathered before the head, the head goes in chunks.

In: a model and a micro-batch on its device. Out: the weighted sum of token losses. Chunks make their gradients
on the way forward, so that logits are computed once and never held for all positions.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from zhiling.trainer.batches import Micro
from zhiling.trainer.data import IntArray
from zhiling.trainer.forward import hidden_states

CHUNK = 2048  # positions whose logits are in memory at once


@dataclass(frozen=True)
class OnDevice:
    """A micro-batch as tensors on the model's device."""

    ids: Tensor
    starts: list[int]
    at: Tensor
    targets: Tensor
    weights: Tensor


class Loss(Protocol):
    """A weighted sum of losses over a micro-batch; the weights of a global batch sum to 1."""

    def __call__(self, model: Any, micro: OnDevice) -> Tensor:
        """The weighted sum."""


def on_device(micro: Micro, device: Any) -> OnDevice:
    """The arrays of a micro-batch as tensors on `device`."""
    def move(array: IntArray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    return OnDevice(move(micro.ids), micro.starts, move(micro.at), move(micro.targets), move(micro.weights))


def token_loss(model: Any, micro: OnDevice) -> Tensor:
    """Cross-entropy of the supervised tokens, causal or masked: the micro-batch says where and what."""
    hidden_MD, words = below_words(model, hidden_states(model, micro.ids, micro.starts, micro.at))
    if type(words) is nn.Linear and words.bias is None:
        return weighted_cross_entropy(hidden_MD, words.weight, micro.targets, micro.weights)
    return weighed(words(hidden_MD), micro)


def below_words(model: Any, hidden_MD: Tensor) -> tuple[Tensor, Any]:  # noqa: N803
    """Hidden states after what stands between an encoder's blocks and its words, and the layer of the words."""
    *between, words = (part for part in model.children() if part is not model.base_model)
    for part in between:
        hidden_MD = part(hidden_MD)
    return hidden_MD, words


def weighed(logits: Tensor, micro: OnDevice) -> Tensor:
    """The weighted sum of cross-entropies, from logits."""
    losses = F.cross_entropy(logits.float(), micro.targets, reduction="none")
    return (losses * micro.weights).sum()


def weighted_cross_entropy(hiddens: Tensor, head_weight: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Sum of weight times cross-entropy of `hidden @ head.T` against the targets, in chunks."""
    device = hiddens.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    found: Tensor = _Chunked.apply(hiddens, head_weight, targets, weights, dtype)  # type: ignore[no-untyped-call]
    return found


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hiddens: Tensor, head_weight: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype | None
    ) -> Tensor:
        with torch.autocast(hiddens.device.type, enabled=False):
            low = dtype or hiddens.dtype
            head = head_weight.to(low)
            wanted = hiddens.requires_grad or head_weight.requires_grad
            total = torch.zeros((), device=hiddens.device)
            grad_hidden = torch.empty_like(hiddens) if wanted else None
            grad_head = None
            for i in range(0, len(targets), CHUNK):
                rows = slice(i, i + CHUNK)
                hidden, target, weight = hiddens[rows].to(low), targets[rows, None], weights[rows, None]
                logits = (hidden @ head.T).float()
                top = logits.logsumexp(1, keepdim=True)
                total += ((top - logits.gather(1, target)) * weight).sum()
                if grad_hidden is not None:
                    logits.sub_(top).exp_()
                    logits.scatter_add_(1, target, torch.full_like(top, -1.0))
                    grad = logits.mul_(weight).to(low)
                    grad_hidden[rows] = (grad @ head).to(grad_hidden.dtype)
                    if head_weight.requires_grad:
                        part = (grad.T @ hidden).to(head_weight.dtype)
                        grad_head = part if grad_head is None else grad_head.add_(part)
        ctx.grads = (grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        hidden, head = ctx.grads
        return (hidden.mul_(grad.to(hidden.dtype)), None if head is None else head.mul_(grad), None, None, None)
