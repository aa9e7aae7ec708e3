"""The fast forward gives the library's hidden states and gradients; what is not plain takes the library's."""

from pathlib import Path
from typing import Any

import pytest
import torch

from zhiling.trainer import forward
from zhiling.trainer.blocks import stack_of
from zhiling.trainer.config import ModelSettings
from zhiling.trainer.forward import hidden_states, is_plain
from zhiling.trainer.model import load_lm, new_model
from zhiling.trainer.tokenizer import load_tokenizer


def starts_of(lengths: list[int]) -> list[int]:
    return [0, *torch.tensor(lengths).cumsum(0).tolist()]


@pytest.fixture(params=["decoder", "encoder"])
def plain(request: pytest.FixtureRequest, pretrained: Path) -> Any:
    """A decoder and an encoder of ours with two heads; the encoder's second layer sees 64 tokens to either side."""
    settings = ModelSettings(family=request.param, preset="pico", hidden=128, layers=2, context=256)
    found = new_model(settings, load_tokenizer(pretrained), 7)
    stack = stack_of(found.base_model)
    assert stack and stack.heads == 2
    return found


@pytest.mark.parametrize(
    "lengths", [[1], [5, 3, 17], [33, 33, 16, 16, 1, 100], [2, 150, *[30] * 9], [64] * 5, [250, 66, 129, 140]], ids=str
)
@pytest.mark.parametrize("filling", [0, 9])
def test_hidden_states_and_gradients_are_those_of_each_row_alone(plain: Any, lengths: list[int], filling: int) -> None:
    ids = torch.randint(0, 400, (sum(lengths) + filling,), generator=torch.Generator().manual_seed(len(lengths)))
    whole = sum(lengths)

    def alone() -> torch.Tensor:
        rows = ids[:whole].split(lengths)
        return torch.cat([plain.base_model(input_ids=row[None]).last_hidden_state[0] for row in rows])

    found = []
    for states in (hidden_states(plain, ids, starts_of(lengths))[:whole], alone()):
        plain.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), [p.grad.clone() for p in plain.base_model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    largest = max(float(grad.abs().max()) for grad in found[1][1])  # 1,400 here: no fixed bound fits
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6 * largest, rtol=1e-4)


@pytest.mark.parametrize("at", [[57, 3, 3, 31], list(range(0, 58, 2))], ids=["few", "many"])
def test_only_the_places_that_are_asked_for(plain: Any, at: Any) -> None:
    """In any order; where they are few, the last layer has no other queries."""
    ids, starts, at = torch.arange(60), starts_of([30, 8, 20]), torch.tensor(at)
    found = []
    for states in (hidden_states(plain, ids, starts, at), hidden_states(plain, ids, starts)[at]):
        plain.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), [p.grad.clone() for p in plain.base_model.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_rows_too_long_for_whole_scores_take_the_librarys_forward(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, starts = torch.arange(40), starts_of([30, 8])
    fast = hidden_states(plain, ids, starts)
    monkeypatch.setattr(forward, "LONGEST", 16)
    slow = hidden_states(plain, ids, starts)
    torch.testing.assert_close(fast[:38], slow[:38], atol=1e-5, rtol=1e-4)
    assert slow.shape == fast.shape


def test_grouped_heads_biases_and_dropout_are_not_plain(model: Any, encoder: Path, bert: Path) -> None:
    model.config.num_key_value_heads = 3
    assert not is_plain(model.base_model) and not is_plain(load_lm(bert).base_model)
    for name, value in (("norm_bias", True), ("mlp_dropout", 0.1)):
        masked = load_lm(encoder).base_model
        setattr(masked.config, name, value)
        assert not is_plain(masked)
