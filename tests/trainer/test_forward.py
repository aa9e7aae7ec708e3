"""The fast forward gives the library's hidden states and gradients; what is not a plain Llama takes the library's."""

from typing import Any

import pytest
import torch

from zhiling.trainer import forward
from zhiling.trainer.forward import hidden_states, is_plain


@pytest.mark.parametrize("length", [1, 5, 33])
def test_hidden_states_and_gradients_are_the_librarys(model: Any, length: int) -> None:
    ids = torch.randint(0, 400, (3, length), generator=torch.Generator().manual_seed(length))
    found = []
    for states in (hidden_states(model, ids), model.base_model(input_ids=ids).last_hidden_state):
        model.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-4, rtol=1e-4)


def test_rows_longer_than_short_take_the_librarys_forward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.arange(12).view(1, 12)
    fast = hidden_states(model, ids)
    monkeypatch.setattr(forward, "SHORT", 8)
    torch.testing.assert_close(fast, hidden_states(model, ids), atol=1e-5, rtol=1e-4)


def test_grouped_heads_and_biases_are_not_plain(model: Any) -> None:
    assert is_plain(model.base_model)
    model.config.num_key_value_heads = 3
    assert not is_plain(model.base_model)
