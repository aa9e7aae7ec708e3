"""Answers of all templates led back to labels: nothing guessed, nothing counted twice."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from zhiling.eval_tasks import board_counts as counts
from zhiling.eval_tasks.board_read import Tally, TaskKey, tally
from zhiling.eval_tasks.results import Sample, prompt_digest

KEY = TaskKey("zh/topic", "data")
LABELS = {"s0": "sport", "s1": "sport", "s2": "arts", "s3": "money"}


def sample(template: str, item: str, choices: tuple[str, ...], target: str, said: str, **changes: Any) -> Sample:
    logprobs = tuple(-0.1 if c == said else -2.0 for c in choices)
    right = float(target == said)
    return Sample(
        "task", "zh/topic", template, 0, item, item, f"{item}?", prompt_digest(f"{item}?"), choices, logprobs, target,
        said, right, **changes,
    )


def three(words: dict[str, str], said: list[str], template: str = "words") -> list[Sample]:
    """A template that calls the three labels by its own words."""
    choices = tuple(words.values())
    return [
        sample(template, item, choices, words[label], words[answer])
        for (item, label), answer in zip(LABELS.items(), said, strict=True)
    ]


CHINESE = {"sport": "体育", "arts": "艺术", "money": "财经"}
LETTERS = {"sport": "A", "arts": "B", "money": "C"}
SAID = ["sport", "arts", "arts", "sport"]


def made(samples: list[Sample]) -> Tally:
    return tally(KEY, 0, samples)


def test_words_of_all_templates_become_labels() -> None:
    found = counts.by_label(made(three(CHINESE, SAID) + three(LETTERS, SAID, "letters")), LABELS)
    assert found is not None
    assert found.labels == ("arts", "money", "sport") and found.templates == ("letters", "words")
    assert found.counts.tolist() == [[2, 0, 0], [0, 0, 2], [2, 0, 2]]


def test_the_answers_of_every_draw_of_exemplars_count() -> None:
    right, wrong = list(LABELS.values()), ["arts", "arts", "sport", "sport"]
    found = made(three(CHINESE, right) + [replace(s, seed=1) for s in three(CHINESE, wrong)])
    matrix = counts.by_label(found, LABELS)
    assert matrix is not None and matrix.counts.tolist() == [[1, 0, 1], [0, 1, 1], [2, 0, 2]]
    words = list(CHINESE.values())
    gold, said = ([CHINESE[x] for x in labels] for labels in (right * 2, right + wrong))
    assert counts.f1_macro(found) == pytest.approx(f1_score(gold, said, labels=words, average="macro"))
    assert counts.words_of(found) == {item: CHINESE[label] for item, label in LABELS.items()}


def test_without_labels_the_words_of_one_template_name_them() -> None:
    both = made(three(CHINESE, SAID) + three(LETTERS, SAID, "letters"))
    found = counts.by_label(both, counts.words_of(both))
    assert found is not None and found.labels == ("A", "B", "C") and found.counts.sum() == 8


def test_shuffled_letters_of_three_classes_are_left_out_and_not_guessed() -> None:
    shuffled = [
        sample("shuffled", "s0", ("A", "B", "C"), "A", "A"), sample("shuffled", "s1", ("A", "B", "C"), "B", "A"),
        sample("shuffled", "s2", ("A", "B", "C"), "A", "B"), sample("shuffled", "s3", ("A", "B", "C"), "C", "C"),
    ]
    found = counts.by_label(made(three(CHINESE, SAID) + shuffled), LABELS)
    assert found is not None and found.templates == ("words",)


def test_of_two_labels_a_wrong_answer_is_the_other() -> None:
    labels = {"s0": "no", "s1": "yes", "s2": "no", "s3": "yes"}
    judged = [
        sample("judge", "s0", ("对", "错"), "对", "错"), sample("judge", "s1", ("对", "错"), "对", "对"),
        sample("judge", "s2", ("对", "错"), "错", "错"), sample("judge", "s3", ("对", "错"), "错", "对"),
    ]
    found = counts.by_label(made(judged), labels)
    assert found is not None and found.counts.tolist() == [[1, 1], [1, 1]]


def test_an_answer_whose_label_no_text_has_is_counted_apart() -> None:
    few = [s for s in three(CHINESE, ["sport", "money", "arts", "sport"]) if s.source_id != "s3"]
    found = counts.by_label(made(few), LABELS)
    assert found is not None and found.labels == ("arts", "sport", counts.OTHER)
    assert found.counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_free_text_has_no_matrix_and_no_calibration() -> None:
    free = made([sample("free", item, (), "x", "y") for item in LABELS])
    assert counts.by_label(free, LABELS) is None and counts.f1_macro(free) is None
    assert counts.expected_calibration_error(free) is None


def test_reports_are_sklearns() -> None:
    random = np.random.default_rng(0)
    truth, said = random.integers(0, 4, 200), random.integers(0, 4, 200)
    matrix = counts._count(truth, said, 4)
    wanted = precision_recall_fscore_support(truth, said, labels=range(4), zero_division=0)
    for column, want in zip(zip(*counts.report(matrix), strict=True), wanted, strict=True):
        assert list(column) == pytest.approx(list(want))


def test_macro_f1_is_the_mean_over_templates() -> None:
    samples = three(CHINESE, SAID) + three(LETTERS, ["sport", "sport", "arts", "money"], "letters")
    gold = list(LABELS.values())
    assert counts.f1_macro(made(samples)) == pytest.approx((f1_score(gold, SAID, average="macro") + 1) / 2)


def test_calibration_error_of_known_confidence() -> None:
    sure = [sample("t", f"s{i}", ("A", "B"), "A", "A" if i < 6 else "B") for i in range(8)]
    found = made(sure)
    confidence = 1 / (1 + np.exp(-1.9))
    assert counts.calibration(found)[8] == pytest.approx((8, confidence, 0.75))
    assert counts.expected_calibration_error(found) == pytest.approx(confidence - 0.75)
