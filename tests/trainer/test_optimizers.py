"""Optimizers and their schedule: which parameters decay, which Muon takes, what the rate is at a step."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhiling.trainer.config import OptimizerSettings
from zhiling.trainer.model import load_lm
from zhiling.trainer.optimizers import make_optimizers, rate, set_rates, step_all


def test_vectors_do_not_decay_and_muon_takes_the_matrices_inside(model: Any) -> None:
    adamw, *muons = make_optimizers(model, OptimizerSettings(name="muon"))
    inside = {id(p) for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2}
    assert {id(p) for muon in muons for g in muon.param_groups for p in g["params"]} == inside
    decays = {g["weight_decay"]: {p.ndim for p in g["params"]} for g in adamw.param_groups}
    assert decays == {0.1: {2}, 0.0: {1}}


def test_muon_takes_the_matrices_inside_whatever_a_family_calls_its_blocks(bert: Path) -> None:
    model = load_lm(bert)
    _, *muons = make_optimizers(model, OptimizerSettings(name="muon"))
    inside = {id(p) for name, p in model.named_parameters() if ".layer." in name and p.ndim == 2}
    assert len(inside) == 12 and {id(p) for o in muons for g in o.param_groups for p in g["params"]} == inside


def test_every_parameter_is_trained_by_exactly_one(model: Any) -> None:
    for name in ("adamw", "muon"):
        made = make_optimizers(model, OptimizerSettings(name=name))  # type: ignore[arg-type]
        taken = [id(p) for o in made for g in o.param_groups for p in g["params"]]
        assert sorted(taken) == sorted(id(p) for p in model.parameters())


def test_muon_takes_all_of_an_adapter(model: Any) -> None:
    model.requires_grad_(False)
    for name, p in model.named_parameters():
        p.requires_grad_(".layers." in name and p.ndim == 2)
    assert {type(o).__name__ for o in make_optimizers(model, OptimizerSettings(name="muon"))} == {"Muon"}


def test_one_or_several_at_once_make_the_same_steps(model: Any) -> None:
    found = []
    for workers in (1, 2):
        own = deepcopy(model)
        optimizers = make_optimizers(own, OptimizerSettings(name="muon"))
        assert len(optimizers) == 3
        for step in range(3):
            for i, p in enumerate(own.parameters()):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i))
            step_all(optimizers, workers)
        found.append(own.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not torch.equal(found[0]["lm_head.weight"], model.lm_head.weight)


@given(steps=st.integers(2, 2000), warmup=st.floats(0, 0.5), final=st.floats(0, 1))
def test_the_rate_climbs_then_falls(steps: int, warmup: float, final: float) -> None:
    rates = [rate(s, steps, OptimizerSettings(warmup=warmup, final=final)) for s in range(steps)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(1) and min(rates[top:]) >= final - 1e-9


def test_rates_are_shares_of_each_groups_peak(model: Any) -> None:
    made = make_optimizers(model, OptimizerSettings(name="muon", learning_rate=0.1, muon_learning_rate=0.2))
    set_rates(made, 0.5)
    assert [g["lr"] for o in made for g in o.param_groups] == [0.05, 0.05, 0.1, 0.1]
