"""A report's numbers are the samples' numbers; its page shows hostile texts as text and filters its errors."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.eval_tasks.browser import CHROMIUM, browser
from tests.eval_tasks.made_results import Made, Rows
from zhiling.cli import run_args
from zhiling.eval_tasks.report import Report, make_report, markdown
from zhiling.eval_tasks.report_page import page
from zhiling.eval_tasks.results import read_run

HOSTILE = "</pre><script>window.owned=1</script><img src=x onerror=window.owned=1>|`*"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, reviews: Rows) -> list[Path]:
    rows = reviews[:30] + reviews[-30:]
    rows[0] = {"text": HOSTILE, "label": "positive"}
    made = Made(tmp_path_factory.mktemp("report") / "results", rows)
    return [made.run("model", 0.6), made.baseline("linear", 0.8)]


@pytest.fixture(scope="module")
def report(folders: list[Path]) -> Report:
    return make_report(folders)


def test_each_template_has_its_own_score(report: Report, folders: list[Path]) -> None:
    run = read_run(folders[0])
    assert [s.shots for s in report.sections] == [0, 3]
    for section in report.sections:
        for t in section.templates:
            samples = run.of(template=t.name, shots=section.shots)
            assert t.score.value == pytest.approx(np.mean([s.correct for s in samples]))
            truth, said = [s.target for s in samples], [s.prediction for s in samples]
            assert t.f1_macro == pytest.approx(f1_score(truth, said, average="macro"))
        assert section.score.value == pytest.approx(np.mean([t.score.value for t in section.templates]))
        assert section.worst.score.value == min(t.score.value for t in section.templates)
        assert section.spread == pytest.approx(section.templates[0].score.value - section.worst.score.value)


def test_held_out_templates_are_marked_and_averaged_apart(report: Report) -> None:
    section = report.sections[0]
    assert [t.name for t in section.templates if t.held_out] == ["cloze"]
    held = next(t for t in section.templates if t.held_out)
    assert section.mean_of(held_out=True) == held.score.value


def test_classes_are_labels_whatever_the_templates_call_them(report: Report, folders: list[Path]) -> None:
    section = report.sections[0]
    assert section.confusion is not None
    assert section.confusion.labels == ("negative", "positive")
    assert section.confusion.templates == ("cloze", "either_or", "question")
    assert section.confusion.counts.sum() == 180
    assert [row[4] for row in section.classes] == [90, 90]
    alone = make_report(folders[:1]).sections[0].confusion
    assert alone is not None and alone.counts.sum() == 180 and set(alone.labels) == {"好", "差"}


def test_variance_is_shared_between_what_varied(report: Report) -> None:
    shares = next(iter(report.shares.values()))
    assert set(shares) == {"template", "shots", "item", "rest"}
    assert sum(shares.values()) == pytest.approx(1)


def test_calibration_counts_every_answer(report: Report) -> None:
    for section in report.sections:
        assert sum(n for n, _, _ in section.calibration) == 180
        right = sum(n * share for n, _, share in section.calibration) / 180
        assert right == pytest.approx(section.score.value)


def test_disagreements_are_texts_with_right_and_wrong_answers(report: Report) -> None:
    found = report.sections[0].disagreements
    assert found
    for d in found:
        rights = [right for _, _, right in d.answers]
        assert 0 < sum(rights) < len(rights) == 3
        assert d.right == pytest.approx(np.mean(rights))


def test_errors_are_wrong_and_the_surest_come_first(report: Report) -> None:
    section = report.sections[0]
    assert section.wrong == len(section.errors) == sum(not e.correct for e in section.errors)
    margins = [max(e.logprobs) - min(e.logprobs) for e in section.errors]
    assert margins == sorted(margins, reverse=True)


def test_markdown_keeps_strangers_words_in_their_place(report: Report) -> None:
    text = markdown(report)
    for line in text.splitlines():
        if line.startswith("|"):
            assert "<script>" not in line
    assert "| either\\_or |" in text and "held out" in text


def test_the_command_writes_both_and_prints_tables(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_args(["leaderboard", "report", *map(str, folders), "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "share of the answers' variance" in out and "macro-F1" in out
    assert (tmp_path / "report.md").is_file() and (tmp_path / "report.html").is_file()


def test_two_models_are_refused(folders: list[Path], tmp_path: Path, reviews: Rows) -> None:
    other = Made(tmp_path / "other", reviews[:4]).run("other", 0.5)
    assert run_args(["leaderboard", "report", str(folders[0]), str(other)]) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")
def test_the_page_in_a_browser(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(report), encoding="utf-8")
    with browser(tmp_path / "profile") as opened:
        opened.open(path)
        assert HOSTILE in opened.js("document.querySelector('main').textContent")
        assert opened.js("window.owned") is None and opened.js("document.querySelectorAll('img').length") == 0
        visible = "[...document.querySelector('section').querySelectorAll('details.error')].filter(d => !d.hidden)"
        before = opened.js(f"{visible}.length")
        opened.js(
            "(() => { const s = document.querySelector('section select[name=template]'); s.value = 'cloze'; "
            "s.dispatchEvent(new Event('change')); })()"
        )
        assert 0 < opened.js(f"{visible}.length") < before
        assert opened.js(f"{visible}.every(d => d.dataset.template === 'cloze')")
        assert opened.js("document.querySelector('.shown').textContent") == str(opened.js(f"{visible}.length"))
        opened.size(390, 844)
        assert opened.js("document.documentElement.scrollWidth") <= 390
        assert opened.said("Runtime.exceptionThrown") == [] and opened.said("Log.entryAdded") == []


def test_one_pack_of_two_releases_is_two_tasks(tmp_path: Path, reviews: Rows) -> None:
    root, other = tmp_path / "results", {"name": "others", "version": "1.0.0", "sha256": "b" * 64}
    folders = [
        Made(root, reviews[:20] + reviews[-20:]).run("model", 0.9, shots=(0,), run="one"),
        Made(root, reviews[30:40] + reviews[-40:-30], release=other).run("model", 0.5, shots=(0,), run="two"),
    ]
    sections = make_report(folders).sections
    assert [(s.task.data, s.score.n) for s in sections] == [("others", 20), ("reviews", 40)]
    assert sum(s.wrong for s in sections) == sum(not x.correct for f in folders for x in read_run(f).samples)
