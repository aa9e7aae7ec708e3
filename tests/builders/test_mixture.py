"""Caps, temperature, weights and totals give exact counts; which rows stay is a keyed draw."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import RecipeMaker
from zhiling.builders.mixture import MixtureSettings, quotas
from zhiling.builders.pipeline import build
from zhiling.errors import UserError
from zhiling.store import read_manifest


def test_without_settings_all_stay() -> None:
    assert quotas({"a": 10, "b": 500}, MixtureSettings()) == {"a": 10, "b": 500}


def test_a_cap_holds_large_corpora_down() -> None:
    assert quotas({"a": 10, "b": 500}, MixtureSettings(cap=100)) == {"a": 10, "b": 100}


def test_temperature_brings_sizes_closer() -> None:
    assert quotas({"a": 100, "b": 10_000}, MixtureSettings(temperature=2)) == {"a": 100, "b": 1000}


def test_weights_multiply() -> None:
    assert quotas({"a": 100, "b": 100}, MixtureSettings(weights={"a": 3.0}, total=80)) == {"a": 60, "b": 20}


def test_what_one_corpus_lacks_goes_to_the_others() -> None:
    assert quotas({"a": 10, "b": 500}, MixtureSettings(weights={"a": 100.0}, total=200)) == {"a": 10, "b": 190}


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 5000), min_size=1),
    st.integers(1, 9000), st.floats(1, 5), st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 10)),
)
def test_a_total_is_met_exactly_or_everything_is_taken(
    sizes: dict[str, int], total: int, temperature: float, weights: dict[str, float]
) -> None:
    found = quotas(sizes, MixtureSettings(total=total, temperature=temperature, weights=weights))
    assert found.keys() == sizes.keys()
    assert all(0 <= found[name] <= size for name, size in sizes.items())
    assert sum(found.values()) == min(total, sum(sizes.values()))


def train_rows(release: Path) -> list[dict[str, str]]:
    return [r for f in (release / "data").glob("train-*.parquet") for r in pq.read_table(f).to_pylist()]


def test_a_larger_cap_keeps_every_row_of_a_smaller_one(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:80] + reviews[-80:])
    caps = {"0.1.0": {"cap": 40, "per_template": 5}, "0.2.0": {"cap": 60, "per_template": 9}, "0.3.0": None}
    kept = {
        version: train_rows(build(make.recipe(version=version, mixture=cap), tmp_path / "out"))
        for version, cap in caps.items()
    }
    ids = {version: {row["id"] for row in rows} for version, rows in kept.items()}
    assert len(ids["0.1.0"]) == 40
    assert len(ids["0.2.0"]) == 60
    assert ids["0.1.0"] < ids["0.3.0"] and ids["0.2.0"] < ids["0.3.0"]
    templates = [row["template"] for row in kept["0.1.0"]]
    assert max(map(templates.count, templates)) <= 5
    about = read_manifest(tmp_path / "out" / "tiny" / "0.1.0", "release")["ledger"]["reviews"]
    assert about["renderings_made"] - about["renderings_kept"] == len(ids["0.3.0"]) - 40


def test_a_weight_for_an_unknown_corpus_is_one_clear_line(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    with pytest.raises(UserError, match=r"recipe.yaml:\d+: mixture.weights.review: no corpus 'review'; did you mean"):
        build(make.recipe(mixture={"weights": {"review": 2.0}}), tmp_path / "out")


def mixed(make: RecipeMaker, tmp_path: Path, version: str, mixture: dict[str, float] | None) -> list[dict[str, str]]:
    render = {"templates_per_row": 4, "shots": {0: 0.8, 2: 0.2}}
    return train_rows(build(make.recipe(version=version, mixture=mixture, render=render), tmp_path / "out"))


def test_shares_of_chat_and_few_shot_hold_together(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:60] + reviews[-60:])
    everything = mixed(make, tmp_path, "0.1.0", None)
    assert {row["messages"] is None for row in everything} == {True, False}
    rows = mixed(make, tmp_path, "0.2.0", {"chat": 0.4, "few_shot": 0.5})
    assert len(rows) > 20 and {row["id"] for row in rows} < {row["id"] for row in everything}
    chat = sum(row["messages"] is not None for row in rows)
    few = sum(int(row["shots"]) > 0 for row in rows)
    assert abs(chat - 0.4 * len(rows)) < 2 and abs(few - 0.5 * len(rows)) < 2
    assert not any(row["messages"] for row in mixed(make, tmp_path, "0.3.0", {"chat": 0.0}))


def test_budgets_of_tokens_are_kept_and_nearly_spent(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    make.corpus(reviews[:60] + reviews[-60:])
    everything = {row["id"] for row in mixed(make, tmp_path, "0.1.0", None)}
    for version, key in (("0.2.0", "tokens"), ("0.3.0", "total_tokens")):
        rows = mixed(make, tmp_path, version, {key: 5000})
        spent = [0.65 * (len(row["prompt"]) + len(row["completion"])) for row in rows]
        assert sum(spent) <= 5000 < sum(spent) + 2000
        assert {row["id"] for row in rows} < everything


def test_a_corpus_may_weigh_nothing() -> None:
    sizes = {"a": 100, "b": 50}
    assert quotas(sizes, MixtureSettings(weights={"a": 0})) == {"a": 0, "b": 50}
    assert quotas(sizes, MixtureSettings(weights={"a": 0}, total=500)) == {"a": 0, "b": 50}
    assert quotas(sizes, MixtureSettings(weights={"a": 0, "b": 0})) == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("mixture", "error"),
    [
        ({"weights": {"reviews": 0}}, r"recipe.yaml:\d+: mixture: leaves not one of \d+ train examples; raise its"),
        ({"tokens": 3}, r"recipe.yaml:\d+: mixture: leaves not one of \d+ train examples; raise its w"),
        ({"weights": {"reviews": -1}}, r"mixture.weights.reviews: found -1; Input should be greater than or"),
        ({"weights": {"reviews": float("inf")}}, r"mixture.weights.reviews: found inf; Input should be a finite"),
        ({"temperature": float("nan")}, r"mixture.temperature: found nan; Input should be .*"),
    ],
)
def test_a_mixture_that_leaves_nothing_or_makes_no_sense_is_one_clear_line(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, mixture: dict[str, object], error: str
) -> None:
    make.corpus(reviews[:20] + reviews[-20:])
    with pytest.raises(UserError, match=error):
        build(make.recipe(mixture=mixture), tmp_path / "out")
