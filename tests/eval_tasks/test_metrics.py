"""Metrics over samples, against counting by hand."""

import math
from dataclasses import replace

import pytest

from zhiling.eval_tasks.metrics import (
    auc,
    calibration_error,
    classes,
    classification,
    classification_report,
    corpus_metrics,
    ndcg,
    said_well,
)
from zhiling.eval_tasks.results import Sample


def sample(probability: float, target: str, choices: tuple[str, ...] = ("正面", "负面")) -> Sample:
    """A sample in which the first choice has this probability and the others share the rest."""
    rest = (1 - probability) / (len(choices) - 1)
    prediction = choices[0] if probability >= rest else choices[1]
    return Sample(
        task="t", pack="zh/sentiment", template="cloze", shots=0, source_id="a", group_id="a", prompt="",
        prompt_sha256="", choices=choices, logprobs=(math.log(probability), *[math.log(rest)] * (len(choices) - 1)),
        target=target, prediction=prediction, score=float(prediction == target),
    )


SAMPLES = [sample(0.9, "正面"), sample(0.8, "负面"), sample(0.3, "负面"), sample(0.6, "正面")]


def test_f1_and_correlation() -> None:
    found = classification(SAMPLES)
    assert found["f1_micro"] == 0.75
    assert found["f1_macro"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["mcc"] == pytest.approx(0.5773, abs=1e-4)
    report = classification_report(SAMPLES)
    assert (report["正面"]["recall"], report["负面"]["recall"]) == (1.0, 0.5)


def test_rows_with_choices_of_their_own_have_no_classes() -> None:
    assert classes([sample(0.9, "甲", ("甲", "乙")), sample(0.9, "丙", ("丙", "丁"))]) is None
    assert classification([sample(0.9, "甲", ("甲", "乙")), sample(0.9, "丙", ("丙", "丁"))]) == {}


def test_calibration() -> None:
    sure_and_right = [sample(0.999, "正面")] * 10
    assert calibration_error(sure_and_right) == pytest.approx(0.001)
    assert calibration_error([sample(0.999, "负面")] * 10) == pytest.approx(0.999)


def test_ranking() -> None:
    assert auc(SAMPLES, "正面") == pytest.approx(0.75)
    assert math.isnan(auc(SAMPLES[:1], "正面"))
    three = ("甲", "乙", "丙")
    assert ndcg([sample(0.8, "甲", three)]) == 1.0
    # the second and the third are as likely as one another: neither is ahead
    from sklearn.metrics import ndcg_score

    assert ndcg([sample(0.8, "乙", three)]) == pytest.approx(ndcg_score([[0, 1, 0]], [[0.8, 0.1, 0.1]]))
    of_no_mind = replace(sample(0.8, "甲", three), logprobs=(-1.1,) * 3)
    assert ndcg([of_no_mind]) == pytest.approx(ndcg_score([[1, 0, 0]], [[1, 1, 1]]))
    assert ndcg([sample(0.8, "乙", three)], k=1) == 0.0


def test_free_texts() -> None:
    parser = {"kind": "last_number"}
    assert said_well("所以是 8 个", "3 + 5 = 8", ["exact_match"], parser) == {"match": 1.0}
    assert said_well("北京", "北京大学", ["f1_span", "bleu"], None) == {"match": 0.0, "f1_span": pytest.approx(2 / 3)}
    texts = [Sample("t", "p", "x", 0, "a", "a", "", "", (), (), "今天天气很好", "今天天气很好", 1.0)]
    assert corpus_metrics(texts, ["bleu", "chrf"], "zh") == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
