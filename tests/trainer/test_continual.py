"""Training on with new tasks: the matrix, what its numbers mean, and that each method does what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.store import read_manifest, write_manifest
from zhiling.trainer.batches import Drawn
from zhiling.trainer.config import ContinualSettings, TrainSettings
from zhiling.trainer.continual import Forgetting, Replay, carry_on, cost, distilled, elastic, fisher, tasks_of
from zhiling.trainer.data import Rows, encode_examples, read_examples, write_rows
from zhiling.trainer.loss import on_device, token_loss
from zhiling.trainer.model import load_model

from .conftest import TINY

CPU = torch.device("cpu")


def settings(method: str, **finetune: Any) -> TrainSettings:
    own = {"method": method, "score_rows": 10, "fisher_rows": 4}
    return TrainSettings.model_validate(
        {**TINY, "finetune": {**TINY["instruct"], "max_steps": 2, **finetune}, "continual": own}
    )


@pytest.fixture
def drawn(release: Path, tokenizer: Any, tmp_path: Path) -> Callable[[int, int], Drawn]:
    def make(start: int, count: int) -> Drawn:
        table = read_examples(release, "train").slice(start, count)
        encoded = encode_examples(table, tokenizer, 1024, whole=False)
        rows: Rows = write_rows(tmp_path / f"rows-{start}", encoded, len(tokenizer))
        return Drawn(rows, 8, seed=3, pad=1, average="token")

    return make


def test_the_three_numbers() -> None:
    found = Forgetting(["a", "b", "c"], [[0.5, 0.5, 0.5], [0.9, 0.4, 0.5], [0.7, 0.8, 0.5], [0.6, 0.9, 0.7]])
    assert found.average == pytest.approx((0.6 + 0.9 + 0.7) / 3)
    assert found.backward_transfer == pytest.approx(((0.6 - 0.9) + (0.9 - 0.8)) / 2)
    assert found.forgetting == pytest.approx(((0.9 - 0.6) + (0.9 - 0.9)) / 2)
    assert Forgetting(["a"], [[0.5], [0.9]]).forgetting == 0


def test_replay_keeps_the_new_rows_and_takes_turns_among_the_old(drawn: Callable[[int, int], Drawn]) -> None:
    new, old = drawn(0, 16), [drawn(16, 6), drawn(32, 6)]
    replay = Replay(new, old, ContinualSettings(share=1 / 3))
    seen: dict[str, int] = {}
    for step in range(6):
        (micro,) = replay.batch(step, 1 << 20)
        fresh = {name for m in new.batch(step, 1 << 20) for name in m.rows}
        assert fresh < set(micro.rows) and len(micro.rows) == 12
        assert micro.weights.sum() == pytest.approx(1)
        for name in set(micro.rows) - fresh:
            seen[name] = seen.get(name, 0) + 1
    assert seen == dict.fromkeys([*old[0].rows.ids, *old[1].rows.ids], 2)  # 24 draws of 12 rows: each twice


def test_ewc_costs_nothing_at_the_start_and_pulls_back_where_it_mattered(
    drawn: Callable[[int, int], Drawn], pretrained: Path
) -> None:
    rows, model = drawn(0, 8), load_model(pretrained).train()
    matters = fisher(pretrained, rows, 4)
    assert all((f >= 0).all() for f in matters.values()) and any((f > 0).any() for f in matters.values())
    loss = elastic(model, [matters], weight=10.0)
    (micro,) = [on_device(m, CPU) for m in rows.batch(0, 1 << 20)]
    assert loss(model, micro).item() == pytest.approx(token_loss(model, micro).item())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01)
    expected = 10.0 / 2 * sum(float(f.sum()) * 0.01**2 for f in matters.values())
    assert loss(model, micro).item() - token_loss(model, micro).item() == pytest.approx(expected, rel=1e-2)
    assert loss(model.eval(), micro).item() == token_loss(model, micro).item()


def test_fisher_is_the_mean_squared_gradient(drawn: Callable[[int, int], Drawn], pretrained: Path) -> None:
    rows, name = drawn(0, 8), "model.layers.0.mlp.up_proj.weight"
    expected = 0.0
    for member in range(3):
        model = load_model(pretrained)
        token_loss(model, on_device(rows.some([member], 1 << 20)[0], CPU)).backward()  # type: ignore[no-untyped-call]
        expected = expected + dict(model.named_parameters())[name].grad ** 2 / 3
    torch.testing.assert_close(fisher(pretrained, rows, 3)[name], expected)


def test_distillation_costs_nothing_until_the_model_says_something_else(
    drawn: Callable[[int, int], Drawn], pretrained: Path
) -> None:
    rows, model = drawn(0, 8), load_model(pretrained).train()
    loss = distilled(pretrained, ContinualSettings(method="distill", distill_weight=1.0))
    (micro,) = [on_device(m, CPU) for m in rows.batch(0, 1 << 20)]
    assert loss(model, micro).item() == pytest.approx(token_loss(model, micro).item(), abs=1e-5)
    changed = model.model.layers[0].mlp.down_proj.weight
    with torch.no_grad():
        changed.add_(torch.linspace(-1, 1, changed.numel()).view_as(changed))
    assert loss(model, micro).item() > token_loss(model, micro).item() + 1e-6


LONG = [pytest.param(method, marks=pytest.mark.long) for method in ("plain", "distill")]


@pytest.mark.parametrize("method", ["replay", "adapters", *LONG])
def test_two_tasks_leave_two_models_a_matrix_and_a_heat_map(
    release: Path, pretrained: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "out"
    found = carry_on(pretrained, [release, release], settings(method), out)
    assert [len(found.matrix), len(found.matrix[0])] == [3, 2]
    assert json.loads((out / "continual.json").read_text(encoding="utf-8"))["matrix"] == found.matrix
    assert "zh/sentiment" in (out / "matrix.svg").read_text(encoding="utf-8")
    first, second = (read_manifest(out / f"{i}-zh-sentiment", "model") for i in (1, 2))
    base = read_manifest(pretrained, "model")
    steps = [step["stage"] for step in second["lineage"]]
    assert first["parent"] == second["parent"] if method == "adapters" else steps.count("continue") == 2
    assert second["tokens_seen"] > base["tokens_seen"]


@pytest.mark.long
@pytest.mark.parametrize("method", ["replay", "ewc", "distill", "adapters"])
def test_encoders_learn_one_task_after_another_too(release: Path, encoder: Path, tmp_path: Path, method: str) -> None:
    own = settings(method, batch_rows=4, validation_rows=4)
    found = carry_on(encoder, [release, release], own, tmp_path / "out")
    assert [len(found.matrix), len(found.matrix[0])] == [3, 2]
    assert read_manifest(tmp_path / "out" / "2-zh-sentiment", "model")["training"]["steps"] == 2


def test_a_head_or_chat_rows_are_refused(release: Path, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train: finetune: a head or chat rows with `train continue`; leave head and"):
        carry_on(pretrained, [release], settings("replay", head="sequence"), tmp_path / "out")


def test_a_second_run_trains_nothing_again_and_finds_the_same(
    release: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = carry_on(pretrained, [release, release], settings("ewc"), tmp_path / "out")
    capsys.readouterr()
    assert carry_on(pretrained, [release, release], settings("ewc"), tmp_path / "out") == first
    assert capsys.readouterr().err.count("is up to date") == 2


def test_a_dry_run_says_what_each_task_that_is_left_would_cost(
    release: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost(pretrained, [release, release], settings("ewc"), tmp_path / "out")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    first, second, last = (line for line in lines if line)
    assert first[:4] == second[:4] == ["zh/sentiment", first[1], first[1], "2"]
    assert last[0] == "all, with scores" and int(last[-1]) > int(first[-1]) + int(second[-1])
    assert list(tmp_path.iterdir()) == []
    carry_on(pretrained, [release], settings("ewc"), tmp_path / "out")
    capsys.readouterr()
    cost(pretrained, [release, release], settings("ewc"), tmp_path / "out")
    said = capsys.readouterr()
    assert said.out.count("zh/sentiment") == 1 and "1-zh-sentiment is up to date" in said.err


def test_the_recipe_says_which_packs_in_which_order(tmp_path: Path) -> None:
    releases = [tmp_path / "a", tmp_path / "b"]
    for folder, packs in zip(releases, (["zh/nli", "zh/sentiment", "zh/topic"], ["zh/matching"]), strict=True):
        folder.mkdir()
        write_manifest(folder, "release", {"corpora": {}, "packs": {pack: {} for pack in packs}})
    names = [t.pack for t in tasks_of(releases, ["zh/topic", "zh/matching", "zh/nli"])]
    assert names == ["zh/topic", "zh/nli", "zh/matching"]
    assert [t.pack for t in tasks_of(releases, None)] == ["zh/nli", "zh/sentiment", "zh/topic", "zh/matching"]
    with pytest.raises(UserError, match=r"finetune\.packs: no 'zh/topics' in these releases; did you mean 'zh/topic'"):
        tasks_of(releases, ["zh/topics"])


def test_the_first_task_is_the_same_for_every_method(release: Path, pretrained: Path, tmp_path: Path) -> None:
    for method in ("ewc", "replay"):
        carry_on(pretrained, [release], settings(method), tmp_path / method)
    first, second = (read_manifest(tmp_path / m / "1-zh-sentiment", "model") for m in ("ewc", "replay"))
    assert first["made_from"] == second["made_from"]


def test_no_rows_left_to_score_is_one_line(release: Path, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no validation rows with choices are left to score; lower finetune\.valid"):
        carry_on(pretrained, [release], settings("plain", validation_rows=9999), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_and_another_method_is_one_line(release: Path, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finetune\.adapter: 'lora' with continual\.method ewc; use lora, dora or"):
        carry_on(pretrained, [release], settings("ewc", adapter={"method": "lora"}), tmp_path / "out")


def test_an_unknown_method_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_args(["train", "continue", "model", "release", "-o", "out", "--method", "replya"]) == 2
    assert capsys.readouterr().err == "error: --method: 'replya'; did you mean 'replay'?\n"
