"""`zhiling template` as a person meets it: what is printed, the exit code, and one clear line where it goes wrong."""

import json
from pathlib import Path

import pytest

from tests.conftest import RecipeMaker
from tests.templates.test_promptsource import write
from zhiling.cli import run_args
from zhiling.templates.pack import pack_names


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run_args(["template", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def mine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    run(capsys, "new", "zh/mine", "--in", tmp_path)
    return tmp_path / "zh" / "mine"


def test_list_and_its_filters(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "--json")
    assert code == 0 and [p["pack"] for p in json.loads(out)] == pack_names()
    _, out, _ = run(capsys, "list", "--task", "classification", "--language", "en", "--license", "apache-2.0", "--json")
    found = json.loads(out)
    assert found and all(p["task"] == "classification" and p["pack"].startswith("en/") for p in found)
    assert run(capsys, "list", "--task", "clasification") == (
        2, "", "error: --task: 'clasification' is none that packs have; did you mean 'classification'?\n",
    )


def test_show_prints_a_template_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "zh/sentiment", "-t", "cloze")
    assert code == 0
    written = "{{ text }}\n总的来说，我觉得很“\n⟶ {{ verbalizer[label] }}\n   of: 差 / 好\n"
    assert out.endswith(f"── cloze (cloze)\n{written}")
    _, out, _ = run(capsys, "show", "zh/sentiment", "--json")
    assert json.loads(out)["pack"] == "zh/sentiment"


def test_a_new_pack_is_linted_tested_and_previewed(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "lint", mine)
    assert code == 0 and out.count("\n") == 1 and ": ZT003 warning: fewer than 10 templates: it has 5" in out
    assert err == "1 pack: 0 errors, 1 warning, 0 notes\n"
    assert run(capsys, "test", mine)[0] == 2
    assert run(capsys, "test", mine, "--update")[:2] == (0, f"{mine}/snapshot.txt\n")
    assert run(capsys, "test", mine)[:2] == (0, "")
    code, out, _ = run(capsys, "preview", mine, "-t", "ask")
    assert code == 0 and "── zh/mine · ask · row 1 · 29 characters" in out


def test_changed_wording_fails_the_test_with_a_diff(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "test", mine, "--update")
    file = mine / "pack.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("      答：", "      回答：", 1), encoding="utf-8")
    code, out, err = run(capsys, "test", mine)
    assert code == 2 and "-答：\n+回答：\n" in out and "zhiling template test --update" in err


def test_an_error_is_exit_code_2_and_fix_mends_what_it_can(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = mine / "pack.yaml"
    sound = file.read_text(encoding="utf-8")
    file.write_text(sound.replace("在提问，还是", "在提问,还是  TODO"), encoding="utf-8")
    code, out, _ = run(capsys, "lint", mine, "--json")
    assert code == 2 and {f["code"] for f in json.loads(out)} == {"ZT003", "ZT024", "ZT026"}
    code, out, err = run(capsys, "lint", mine, "--fix")
    assert code == 2 and "ZT024" in out and "ZT026" not in out and "1 lines mended" in err
    assert "在提问，还是  TODO" in file.read_text(encoding="utf-8")


def test_shots_are_other_rows_than_those_that_are_shown(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "preview", mine, "-t", "ask", "--rows", 1, "--shots", 2, "--json")
    (shown,) = json.loads(out)
    assert code == 0 and [span["origin"] for span in shown["spans"]].count("answer") == 3


def test_preview_of_a_pack_without_examples_says_so(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "examples.jsonl").unlink()
    code, _, err = run(capsys, "preview", mine)
    assert code == 0 and "zh/mine: no examples to show; write some into examples.jsonl" in err


def test_preview_takes_rows_from_a_file(
    make: RecipeMaker, reviews: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    stars = {"positive": "5", "negative": "1"}
    file = make.corpus([{"review": r["text"], "stars": stars[r["label"]]} for r in reviews[298:302]])
    mapped = ("--map", "text=review", "--map", "label=stars", "--label", "5=positive", "--label", "1=negative")
    code, out, _ = run(capsys, "preview", "zh/sentiment", "-t", "cloze", "--corpus", file, *mapped, "--json")
    shown = json.loads(out)
    assert code == 0 and [p["spans"][0]["text"] for p in shown] == [r["text"] for r in reviews[298:300]]
    code, _, err = run(capsys, "preview", "zh/sentiment", "--corpus", file)
    assert code == 2 and "no column 'text'" in err
    code, _, err = run(capsys, "preview", "zh/sentiment", "--corpus", file, *mapped[:4])
    assert code == 2 and "no row fits zh/sentiment" in err and "'stars' is '5'" in err
    code, _, err = run(capsys, "preview", "zh/sentiment", "--corpus", file, "--map", "text")
    assert (code, err) == (2, "error: --map: 'text' has no =; write --map NAME=VALUE\n")


def test_markdown_shows_the_others_where_one_pack_is_broken(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "pack.yaml").write_text("pack: [", encoding="utf-8")
    code, out, _ = run(capsys, "preview", "--markdown", "-t", "cloze", mine, "zh/sentiment")
    assert code == 0 and "zh/mine · not read" in out and "not valid YAML" in out and "zh/sentiment · cloze" in out
    code, _, err = run(capsys, "preview", mine)
    assert code == 2 and "not valid YAML" in err


def test_report_measures_and_writes_between_the_marks(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "report", mine, "--json")
    (found,) = json.loads(out)
    assert (found["pack"], found["templates"], found["kinds"], found["examples"]) == ("zh/mine", 5, 5, 8)
    assert 0 < found["unlike_least"] <= found["unlike_mean"] <= 1
    file = tmp_path / "table.md"
    file.write_text("head\n<!-- report -->\nold\n<!-- end of report -->\ntail\n", encoding="utf-8")
    assert run(capsys, "report", mine, "--write", file)[1] == f"{file}: written\n"
    text = file.read_text(encoding="utf-8")
    assert text.startswith("head\n<!-- report -->\n\n| pack |") and text.endswith("<!-- end of report -->\ntail\n")
    assert run(capsys, "report", mine, "--write", file)[1] == f"{file}: as it was\n"
    file.write_text("no marks")
    assert run(capsys, "report", mine, "--write", file)[0] == 2


def test_promptsource_is_imported_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "{{ text }}? ||| yes")
    code, out, _ = run(capsys, "import", "promptsource", file, "-o", tmp_path / "packs", "--json")
    assert code == 0 and json.loads(out)[0]["pack"] == "en/tiny_plain"
    assert run(capsys, "lint", tmp_path / "packs")[0] in (0, 2)
    code, _, err = run(capsys, "import", "promptsource", tmp_path / "none")
    assert code == 2 and "no such file" in err
