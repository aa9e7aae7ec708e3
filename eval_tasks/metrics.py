"""Metrics that lm-eval lacks, over the samples of one task.

In: `Sample`s. Out: numbers, and scikit-learn's `classification_report`. Classes are the choices as the model saw
them; a task in which each row has choices of its own (reading comprehension) has no classes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zhiling.eval_tasks.answers import code_in, exact, facts_f1, parse, read_json_in, rouge_l, span_f1
from zhiling.eval_tasks.constraints import Constraints, constraints_met
from zhiling.eval_tasks.fields import right_answers
from zhiling.eval_tasks.results import Sample

MOST_CLASSES = 200
PER_SAMPLE: dict[str, Callable[[str | None, str], float]] = {
    "f1_span": span_f1, "f1_entity": facts_f1, "f1_triple": facts_f1, "rouge_l": rouge_l,
    "json_valid": lambda said, wanted: float(read_json_in(said or "") is not None),
}
OF_TEXTS = ("match", *PER_SAMPLE, "constraint", "pass_at_1")  # metrics of single free texts


def classes(samples: Sequence[Sample]) -> list[str] | None:
    """The classes of a task; None where rows do not share their choices."""
    if not samples or not samples[0].choices:
        return None
    first = {c.strip() for c in samples[0].choices}
    if len(first) > MOST_CLASSES or any({c.strip() for c in s.choices} != first for s in samples):
        return None
    return sorted(first)


def classification(samples: Sequence[Sample]) -> dict[str, float]:
    """Macro, micro and weighted F1, Matthews' correlation and calibration error; {} where there are no classes."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    labels = classes(samples)
    if labels is None:
        return {}
    gold, said = [s.target for s in samples], [s.prediction for s in samples]
    found = {
        f"f1_{average}": float(f1_score(gold, said, labels=labels, average=average, zero_division=0.0))
        for average in ("macro", "micro", "weighted")
    }
    correlation = float(matthews_corrcoef(gold, said)) if len({*gold, *said}) > 1 else 0.0
    return {**found, "mcc": correlation, "ece": calibration_error(samples)}


def classification_report(samples: Sequence[Sample]) -> dict[str, Any]:
    """scikit-learn's report: precision, recall, F1 and support of each class; {} where there are no classes."""
    from sklearn.metrics import classification_report as report

    labels = classes(samples)
    if labels is None:
        return {}
    gold, said = [s.target for s in samples], [s.prediction for s in samples]
    found: dict[str, Any] = report(gold, said, labels=labels, output_dict=True, zero_division=0.0)
    return found


def probabilities(sample: Sample) -> np.ndarray[Any, Any]:
    """The choices' probabilities, the log-probabilities normalised over the choices."""
    scores = np.array(sample.logprobs)
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum())


def calibration_error(samples: Sequence[Sample], bins: int = 10) -> float:
    """Expected calibration error: how far confidence is from accuracy, over `bins` of equal width."""
    sure = np.array([probabilities(s).max() for s in samples])
    right = np.array([s.correct for s in samples], dtype=float)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in set(place.tolist())]
    return float(sum(gaps))


def auc(samples: Sequence[Sample], positive: str) -> float:
    """Area under the ROC curve of one choice's probability; NaN where only one class is there."""
    from sklearn.metrics import roc_auc_score

    gold = [s.target == positive for s in samples]
    if len(set(gold)) < 2:
        return float("nan")
    scores = [float(probabilities(s)[[c.strip() for c in s.choices].index(positive)]) for s in samples]
    return float(roc_auc_score(gold, scores))


def ndcg(samples: Sequence[Sample], k: int = 10) -> float:
    """NDCG@k where each row ranks its choices by log-probability and one of them is right.

    Choices as likely as one another share the mean of their places' gains (McSherry and Najork, 2008).
    """
    gains = []
    for s in samples:
        own, scores = s.logprobs[s.choices.index(_own(s))], np.asarray(s.logprobs)
        places = np.arange(sum(scores > own), sum(scores >= own))
        gains.append(np.mean(np.where(places < k, 1 / np.log2(places + 2), 0.0)))
    return float(np.mean(gains))


def _own(sample: Sample) -> str:
    return next(c for c in sample.choices if c.strip() == sample.target)


def said_well(
    text: str, wanted: str, wanted_metrics: Sequence[str], parser: Mapping[str, Any] | None,
    fields: str | None = None, allow_code: bool = False,
) -> dict[str, float]:
    """How right one free text is: `match` of the parsed answers, and the pack's own metrics of single texts.

    `fields` is what its document carries: where a row has several right answers, the best counts. Code runs only
    where it is allowed.
    """
    told = json.loads(fields) if fields else {}
    right, said = right_answers(wanted, told.get("answers", [])), parse(text, parser)
    found = {"match": max(exact(said, parse(answer, parser) or answer) for answer in right)}
    for name in wanted_metrics:
        if name in PER_SAMPLE:
            found[name] = max(PER_SAMPLE[name](text, answer) for answer in right)
    if "constraint" in wanted_metrics and "constraints" in told:
        found["constraint"] = constraints_met(said or "", Constraints.model_validate(told["constraints"]))
    if allow_code and "pass_at_1" in wanted_metrics and "tests" in told:
        from zhiling.eval_tasks.code_runner import passes

        found["pass_at_1"] = float(passes(f"{code_in(said or '')}\n\n{told['tests']}\n"))
    return found


def corpus_metrics(samples: Sequence[Sample], wanted_metrics: Sequence[str], language: str) -> dict[str, float]:
    """Metrics of all texts together: BLEU and chrF by sacrebleu; AUC and NDCG of choices."""
    found: dict[str, float] = {}
    said, wanted = [s.prediction for s in samples], [s.target for s in samples]
    if "bleu" in wanted_metrics and not samples[0].choices:
        from sacrebleu import corpus_bleu

        found["bleu"] = float(corpus_bleu(said, [wanted], tokenize="zh" if language == "zh" else "13a").score)
    if "chrf" in wanted_metrics and not samples[0].choices:
        from sacrebleu import corpus_chrf

        found["chrf"] = float(corpus_chrf(said, [wanted]).score)
    names = classes(samples)
    if "auc" in wanted_metrics and names and len(names) == 2:
        found["auc"] = auc(samples, names[1])
    if "ndcg" in wanted_metrics and samples[0].choices:
        found["ndcg"] = ndcg(samples)
    return found
