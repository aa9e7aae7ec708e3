"""The card says what was done: augmentation, mixtures, obstacles to sharing and why it is shared all the same."""

import re
from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.card import SIZES
from zhiling.builders.pipeline import build
from zhiling.cli import run_args
from zhiling.store import write_manifest

REASON = "The owner agreed by letter on 2026-01-02: <b>all</b> rows."


@pytest.mark.filterwarnings("ignore")
def test_the_card_tells_all_of_it(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    make.corpus(reviews[:40] + reviews[-40:])
    recipe = make.recipe(
        corpus={"license": "unknown"}, share_anyway=REASON, mixture={"cap": 30},
        augment={"methods": [{"kind": "typo", "rows": 1.0}]},
    )
    card = (build(recipe, tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert "license: other" in card
    assert "- reviews (unknown): states no licence." in card
    assert "shared all the same, because: The owner agreed by letter on 2026-01-02: \\<b\\>all" in card
    assert "## 改写 / Augmentation" in card
    ledger = next(line for line in card.splitlines() if line.startswith("| reviews |") and line.count("|") == 12)
    assert ledger.split("|")[-2].strip() != ledger.split("|")[-3].strip()


def test_a_card_without_them_is_silent(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    make.corpus(reviews[:30] + reviews[-30:])
    card = (build(make.recipe(), tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert "Augmentation" not in card and "all the same" not in card and "stay together" not in card


def test_rows_that_a_recipe_ties_are_not_called_near_duplicates(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.corpus([{**row, "user": str(n % 9)} for n, row in enumerate(reviews[:30] + reviews[-30:])])
    release = build(make.recipe(corpus={"together": "user"}), tmp_path / "out")
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "every pair verified) or stay together by the recipe (`together`), in 9 groups." in card
    assert run_args(["inspect", str(release)]) == 0
    shown = capsys.readouterr().out
    assert "a near duplicate or a tied row" in shown
    assert shown.index("rows in sources") < shown.index("rows screened") < shown.index("renderings kept")


def test_sizes_are_those_that_the_hub_knows() -> None:
    found = [next((name for limit, name in SIZES if rows < limit), "n>1T") for rows in (0, 10**3, 10**7, 10**9, 10**12)]
    assert found == ["n<1K", "1K<n<10K", "10M<n<100M", "1B<n<10B", "n>1T"]


def test_a_release_of_an_earlier_zhiling_is_shown_as_far_as_it_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = {"reviews": {"rows_in_sources": 90, "rows_read": 88}}
    leak = {"naive_leaked_rows": 9, "naive_test_rows": 12}
    about = {"name": "old", "version": "1.0.0", "splits": {"test": {"rows": 12}}, "ledger": ledger, "leak": leak}
    write_manifest(tmp_path, "release", about)
    assert run_args(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "rows in sources" in shown and "9 of 12 (75.0%)" in shown and shown.count("not counted") == 2


def test_a_card_is_in_the_language_of_the_data_and_english(make: RecipeMaker, tmp_path: Path) -> None:
    make.corpus([{"text": f"Film {n} was a joy from its start to its end", "label": "positive"} for n in range(30)])
    corpus = {"pack": "en/sentiment"}
    first = build(make.recipe(corpus=corpus, title="Films", summary="Short."), tmp_path / "out")
    split = {"previous": "out/tiny/1.0.0"}
    again = make.recipe(corpus=corpus, title="Films", summary="Short.", version="1.1.0", split=split)
    for release, versions in ((first, 0), (build(again, tmp_path / "out"), 1)):
        card = (release / "README.md").read_text(encoding="utf-8")
        assert not re.search("[\u4e00-\u9fff]", card)
        assert card.count("\n## Versions\n") == versions and "\n## Size\n" in card and "\n- Personal data was" in card
