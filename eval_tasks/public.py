"""Public data sets as tasks: where each comes from, what its licence allows, which metric its authors publish.

In: the folder of the user's own copies (or `hf://datasets/ORG/NAME`, the same files on the Hub). Out: rows in a
pack's columns. Nothing is shipped and nothing is downloaded unasked. Refused: unknown names, absent files, files
that do not hold what the data set's authors publish.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.eval_tasks.documents import Asked, Rows
from zhiling.templates.pack import load_pack

PACKS = Path(__file__).parent / "packs"
Row = Mapping[str, Any]
Convert = Callable[[Row, list[str]], Iterator[dict[str, Any]]]
FEWCLUE = "https://github.com/CLUEbenchmark/FewCLUE"
NO_LICENCE = "none stated by its authors: evaluate, do not redistribute"
TNEWS = ("story", "culture", "entertainment", "sports", "finance", "house", "car", "edu", "tech", "military", "travel",
         "world", "stock", "agriculture", "game")


@dataclass(frozen=True)
class Public:
    """A public data set and how its rows become a pack's."""

    name: str
    pack: str
    files: dict[str, str]       # train (for exemplars) and test, below the data folder
    source: str
    license: str
    metric: str                 # as published
    convert: Convert
    group: str | None = None    # the column whose equal values are one cluster
    options: Callable[[Row], str] | None = None  # of a row, the class name that rows choose among


def _topic(text: str, answer: Callable[[Row], str]) -> Convert:
    def convert(row: Row, options: list[str]) -> Iterator[dict[str, Any]]:
        yield {"text": row[text], "options": options, "answer": answer(row)}

    return convert


def _labelled(columns: Mapping[str, str], labels: Mapping[str, str], label: str = "label") -> Convert:
    """Columns by name, the label by a table; rows whose label the authors left open are no rows."""

    def convert(row: Row, options: list[str]) -> Iterator[dict[str, Any]]:
        found = str(row[label])
        if found not in ("-", ""):
            yield {**{mine: row[theirs] for mine, theirs in columns.items()}, "label": labels[found]}

    return convert


def _chid(row: Row, options: list[str]) -> Iterator[dict[str, Any]]:
    answer = row["candidates"][int(row["answer"])]
    yield {"text": row["content"], "options": row["candidates"], "answer": answer}


def _pronoun(row: Row, options: list[str]) -> Iterator[dict[str, Any]]:
    target = row["target"]
    yield {"text": row["text"], "span": target["span1_text"], "pronoun": target["span2_text"],
           "label": str(row["label"]).lower()}


def _cmrc(row: Row, options: list[str]) -> Iterator[dict[str, Any]]:
    for paragraph in row["paragraphs"]:
        for qa in paragraph["qas"]:
            answers = list(dict.fromkeys(a["text"] for a in qa["answers"]))
            yield {"context": paragraph["context"], "question": qa["question"], "answers": answers}


def _fewclue(task: str, pack: str, convert: Convert, **more: Any) -> Public:
    files = {"train": f"fewclue/{task}/train_few_all.json", "test": f"fewclue/{task}/test_public.json"}
    return Public(f"fewclue/{task}", pack, files, FEWCLUE, NO_LICENCE, "accuracy", convert, **more)


def _label(row: Row) -> str:
    return str(row["label"])


def _label_des(row: Row) -> str:
    return str(row["label_des"])


THUCNEWS = ("finance", "realty", "stocks", "education", "science", "society", "politics", "sports", "game",
            "entertainment")
PUBLIC = {
    public.name: public
    for public in (
        _fewclue("eprstmt", "zh/sentiment",
                 _labelled({"text": "sentence"}, {"Positive": "positive", "Negative": "negative"})),
        _fewclue("tnews", "zh/tnews",
                 _labelled({"text": "sentence"}, {f"news_{n}": f"news_{n}" for n in TNEWS}, "label_desc")),
        _fewclue("ocnli", "zh/nli", _labelled(
            {"premise": "sentence1", "hypothesis": "sentence2"},
            {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"},
        ), group="premise"),
        _fewclue("bustm", "zh/matching",
                 _labelled({"text1": "sentence1", "text2": "sentence2"}, {"0": "different", "1": "same"})),
        _fewclue("csldcp", "zh/open_topic", _topic("content", _label), options=_label),
        _fewclue("iflytek", "zh/open_topic", _topic("sentence", _label_des), options=_label_des),
        _fewclue("csl", "zh/keywords",
                 _labelled({"text": "abst", "keywords": "keyword"}, {"0": "mixed", "1": "genuine"}), group="text"),
        _fewclue("chid", "zh/idiom_cloze", _chid),
        _fewclue("cluewsc", "zh/pronoun", _pronoun, group="text"),
        Public("cmrc2018", "zh/reading_extractive", {"test": "cmrc2018/cmrc2018_trial.json"},
               "https://github.com/ymcui/cmrc2018", "CC BY-SA 4.0", "span F1 and exact match", _cmrc, group="context"),
        Public("thucnews", "zh/topic", {"train": "thucnews/dev.txt", "test": "thucnews/test.txt"},
               "https://github.com/649453932/Chinese-Text-Classification-Pytorch", "MIT (repository)", "accuracy",
               _labelled({"text": "text"}, {str(i): name for i, name in enumerate(THUCNEWS)})),
        Public("sst2", "en/sentiment", {"train": "sst2/train.tsv", "test": "sst2/test.tsv"},
               "https://github.com/clairett/pytorch-sentiment-classification", NO_LICENCE, "accuracy",
               _labelled({"text": "text"}, {"0": "negative", "1": "positive"})),
    )
}


def find_public(name: str) -> Public:
    """The public data set of that name. Raises UserError where there is none."""
    if name not in PUBLIC:
        raise UserError(f"task '{one_line(name)}'", "no such public data set", did_you_mean(name, PUBLIC))
    return PUBLIC[name]


def ask_public(public: Public, data: str, limit: int | None = None, fixed: bool = False) -> Asked:
    """A public data set's rows in its pack's columns; of the test rows the first `limit` in their drawn order."""
    raw = {split: list(_read(f"{data.rstrip('/')}/{path}")) for split, path in public.files.items()}
    options: list[str] = []
    if public.options is not None:
        options = sorted({_converted(public, public.options, row) for rows in raw.values() for row in rows})
    rows = {
        split: Rows.of([new for row in found for new in _converted(public, _all, row, public.convert, options)],
                       public.group)
        for split, found in raw.items()
    }
    train = rows.get("train", Rows((), (), ()))
    return Asked(public.name, load_pack(public.pack, PACKS), rows["test"].first(limit), train, fixed)


def _all(row: Row, convert: Convert, options: list[str]) -> list[dict[str, Any]]:
    return list(convert(row, options))


def _converted(public: Public, convert: Callable[..., Any], row: Row, *more: Any) -> Any:
    """`convert(row)`. Raises UserError where the row is not what the authors publish."""
    try:
        return convert(row, *more)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        saw = f"a row without what {public.name} has ({one_line(repr(error), 60)})"
        raise UserError(public.files["test"], saw, f"get the files from {public.source}") from None


def _read(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a file: JSON lines, a JSON of `data`, or `text<TAB>label` lines."""
    import fsspec  # type: ignore[import-untyped]

    try:
        with fsspec.open(path, "r", encoding="utf-8") as f:
            text = f.read()
    except Exception as error:  # of the disk, of the encoding, or of whatever opens an address
        do = "give the folder that holds the public files: --data FOLDER"
        raise UserError(path, f"cannot be read ({type(error).__name__})", do) from None
    if path.endswith((".txt", ".tsv")):
        for line in text.splitlines():
            title, _, label = line.rpartition("\t")
            yield {"text": title, "label": label}
        return
    try:
        yield from json.loads(text)["data"]
        return
    except (ValueError, KeyError, TypeError):
        pass  # not one JSON value: a JSON value a line
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                saw = f"not JSON ({one_line(str(error), 60)})"
                raise UserError(f"{path}:{number}", saw, "get the file anew") from None
