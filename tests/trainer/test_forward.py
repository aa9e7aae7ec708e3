"""The fast forward gives the library's hidden states and gradients; what is not a plain Llama takes the library's."""

from typing import Any

import pytest
import torch

from zhiling.trainer import forward
from zhiling.trainer.forward import hidden_states, is_plain


def starts_of(lengths: list[int]) -> list[int]:
    return [0, *torch.tensor(lengths).cumsum(0).tolist()]


@pytest.mark.parametrize("lengths", [[1], [5, 3, 17], [33, 33, 16, 16, 1, 100], [64] * 5], ids=str)
@pytest.mark.parametrize("filling", [0, 9])
def test_hidden_states_and_gradients_are_those_of_each_row_alone(model: Any, lengths: list[int], filling: int) -> None:
    ids = torch.randint(0, 400, (sum(lengths) + filling,), generator=torch.Generator().manual_seed(len(lengths)))
    whole = sum(lengths)

    def alone() -> torch.Tensor:
        rows = ids[:whole].split(lengths)
        return torch.cat([model.base_model(input_ids=row[None]).last_hidden_state[0] for row in rows])

    found = []
    for states in (hidden_states(model, ids, starts_of(lengths))[:whole], alone()):
        model.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    largest = max(float(grad.abs().max()) for grad in found[1][1])  # 1,400 here: no fixed bound fits
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6 * largest, rtol=1e-4)


def test_only_the_places_that_are_asked_for(model: Any) -> None:
    ids, starts, at = torch.arange(60), starts_of([30, 8, 20]), torch.tensor([57, 3, 3, 31])
    found = []
    for states in (hidden_states(model, ids, starts, at), hidden_states(model, ids, starts)[at]):
        model.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_rows_too_long_for_whole_scores_take_the_librarys_forward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, starts = torch.arange(40), starts_of([30, 8])
    fast = hidden_states(model, ids, starts)
    monkeypatch.setattr(forward, "LONGEST", 16)
    slow = hidden_states(model, ids, starts)
    torch.testing.assert_close(fast[:38], slow[:38], atol=1e-5, rtol=1e-4)
    assert slow.shape == fast.shape


def test_grouped_heads_and_biases_are_not_plain(model: Any) -> None:
    assert is_plain(model.base_model)
    model.config.num_key_value_heads = 3
    assert not is_plain(model.base_model)
