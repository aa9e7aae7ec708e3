"""The board's page in a real browser: sort, filter, languages, views, hostile names, keyboard, phone, size."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.eval_tasks.browser import CHROMIUM, Page, browser
from tests.eval_tasks.made_results import Made, Rows
from zhiling import cards
from zhiling.cards.pages import script_json
from zhiling.eval_tasks.board_page import command
from zhiling.eval_tasks.board_read import Field, Model, Tally, TaskKey
from zhiling.eval_tasks.leaderboard import build
from zhiling.eval_tasks.results import Sample

HOSTILE = "evil</script><script>window.owned=1</script>/<img src=x onerror=window.owned=1>'\"&‮"
NAMES = "[...document.querySelectorAll('#board tbody tr')].map(r => r.dataset.model)"
HEADS = "[...document.querySelectorAll('#board thead th')].map(t => t.innerText.replace(/\\s+/g, ' ').trim())"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, reviews: Rows) -> Path:
    """A board of three models, one of them hostile, and two baselines on two tasks."""
    root = tmp_path_factory.mktemp("board")
    rows = reviews[:60] + reviews[-60:]
    rows[0] = {"text": "</script><script>window.owned=1</script><b>粗</b>", "label": "positive"}
    films = [{"text": f"Film number {i}.", "label": ("negative", "positive")[i % 2]} for i in range(60)]
    shared = Made(root / "results", rows)
    other = Made(root / "results", films, pack="en/sentiment", release={"name": "films", "version": "2.0.0"})
    results = []
    for made in (shared, other):
        results += [
            made.run("small", 0.5, parameters=5_000_000, tokens_seen=20_000_000),
            made.run("large", 0.95, parameters=90_000_000, tokens_seen=900_000_000, stage="instructed"),
            made.baseline("linear", 0.8), made.baseline("majority", 0.5),
        ]
    shared.contamination = {"contaminated": 7, "documents": 120}
    results += [shared.run(HOSTILE, 0.7, shots=(0,))]
    build(results, root / "site")
    return root / "site" / "index.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_best_stand_first_in_tiers(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en")
    assert page.js(NAMES) == ["large", "baseline:linear", "baseline:majority", "chance", "small", HOSTILE]
    tiers = page.js("[...document.querySelectorAll('#board tbody tr')].map(r => r.cells[0].innerText)")
    assert tiers[:2] == ["1", "2"] and tiers[-1] == ""
    assert "1 of the tasks missing" in page.js("document.querySelector('#board tbody tr:last-child').innerText")
    assert page.js("document.querySelectorAll('tr.opens').length") >= 1


def test_a_click_on_a_column_sorts_by_it_and_another_turns_it(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en")
    click = "[...document.querySelectorAll('#board thead button')].find(b => b.innerText === 'Model').click()"
    page.js(click)
    page.settle()
    names = page.js(NAMES)
    assert names == sorted(names, key=str.lower)
    page.js(click)
    page.settle()
    assert page.js(NAMES) == names[::-1]
    assert page.js("document.querySelector('#board th[aria-sort=descending]').innerText") == "Model"


def test_numbers_sort_as_numbers_and_what_is_missing_goes_last(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en&sort=parameters")
    assert page.js(NAMES)[:2] == ["large", "small"]
    page.open(site, "#/?lang=en&sort=parameters&dir=asc")
    assert page.js(NAMES)[:2] == ["small", "large"]


def test_typing_filters_and_the_address_remembers_it(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en")
    page.js("document.getElementById('q').focus()")
    page.type("LARGE")
    assert page.js(NAMES) == ["large"]
    assert page.js("document.activeElement.id") == "q"
    assert "q=LARGE" in page.js("location.hash")
    page.open(site, "#/?lang=en&q=nobody")
    assert page.js("document.querySelector('[role=status]').innerText") == "No model fits."


def test_kinds_and_shots_choose_rows(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en&kind=causal")
    assert set(page.js(NAMES)) == {"large", "small", HOSTILE}
    page.open(site, "#/?lang=en&shots=3")
    assert HOSTILE not in page.js(NAMES) and "baseline:linear" in page.js(NAMES)


def test_the_page_speaks_chinese_and_english(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=zh")
    assert page.js(HEADS)[:3] == ["档", "模型", "总分"]
    page.js("document.getElementById('lang').click()")
    page.settle()
    assert page.js(HEADS)[:3] == ["Tier", "Model", "Score"]
    assert page.js("document.documentElement.lang") == "en"


def test_every_word_is_there_in_both_languages() -> None:
    folder = Path(cards.__file__).parent
    words = (folder / "board_words.js.j2").read_text(encoding="utf-8")
    known = set(re.findall(r"(\w+): \[", words))
    used = set(re.findall(r"\bt\(\"(\w+)\"", (folder / "board_app.js.j2").read_text(encoding="utf-8")))
    assert used and used <= known


def test_light_and_dark(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en&theme=light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.js(colour)
    page.js("document.getElementById('theme').click()")
    page.settle()
    assert page.js(colour) != light
    assert "theme=dark" in page.js("location.hash")


def test_scores_as_measured_or_with_chance_at_nought(page: Page, site: Path) -> None:
    cell = "document.querySelector('#board tr[data-model=chance]').cells[3].innerText"
    page.open(site, "#/?lang=en")
    assert page.js(cell) == "0.0"
    page.open(site, "#/?lang=en&scale=raw")
    assert page.js(cell) == "50.0"


def test_one_task_has_the_total_to_the_last_digit(page: Page, tmp_path: Path, reviews: Rows) -> None:
    made = Made(tmp_path / "results", reviews[:11] + reviews[-11:])
    build([made.run(f"m{i}", 0.1 * i, shots=(0,)) for i in range(3, 9)], tmp_path)
    page.open(tmp_path / "index.html", "#/?lang=en")
    numbers = "[2, 3].map(i => r.cells[i].innerText.match(/-?[\\d.]+/g).slice(0, 3))"
    rows = page.js(f"[...document.querySelectorAll('#board tbody tr')].map(r => {numbers})")
    assert len(rows) == 7 and all(total == task for total, task in rows)


def test_a_models_page_holds_its_report_its_samples_and_its_command(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en")
    page.js("[...document.querySelectorAll('#board a')].find(a => a.innerText === 'large').click()")
    page.settle()
    text = page.js("document.querySelector('main').innerText")
    assert "90.0 M" in text and "instructed" in text and "en/sentiment · films" in text
    assert page.js("document.getElementById('command').innerText").startswith("zhiling eval large --release out/")
    page.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    text = page.js("document.querySelector('main').innerText")
    assert "Confusion matrix" in text and "Precision" in text and "added up over 3 templates" in text
    assert "✓ right" in text and "← said" in text
    assert page.js("document.title") == "large · zhiling leaderboard"


def test_the_command_names_what_is_not_usual() -> None:
    run = {
        "settings": {"packs": ["fewclue/tnews", "sst2"], "shots": [0, 4], "limit": 100, "too_long": "fewer_shots",
                     "seeds": 1, "check_contamination": True, "prompts": False, "compress": True, "backend": "zhiling"},
        "tasks": {"sst2_cloze_0shot": {"source": "https://example.org"}},
    }
    assert command(Model("small", "causal", {}, ()), run) == (
        "zhiling eval small --data DATA --tasks fewclue/tnews,sst2 --shots 0,4 --limit 100 --too-long fewer_shots "
        "--check-contamination --without-prompts --compress"
    )


def test_the_matrix_and_its_report_add_up(page: Page, site: Path) -> None:
    page.open(site, "#/model/large?lang=en")
    page.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    counts = page.js("[...document.querySelector('table.matrix').querySelectorAll('td')].map(d => +d.innerText)")
    assert len(counts) == 4 and sum(counts) == 60 * 3
    assert counts[0] + counts[3] > 160


def test_a_tasks_page_ranks_its_models(page: Page, site: Path) -> None:
    page.open(site, "#/task/" + "zh%2Fsentiment%20%C2%B7%20reviews?lang=en")
    names = page.js("[...document.querySelector('table').querySelectorAll('tbody th')].map(t => t.innerText)")
    assert names[0] == "large" and "chance" in names
    assert "How hard each template is" in page.js("document.querySelector('main').innerText")


def test_an_unknown_address_is_answered(page: Page, site: Path) -> None:
    page.open(site, "#/model/nobody?lang=en")
    assert "There is no such page." in page.js("document.querySelector('main').innerText")
    page.open(site, "#/constructor/x?lang=en")
    assert "There is no such page." in page.js("document.querySelector('main').innerText")
    page.open(site, "#/model/%E0%A4%A?lang=en")
    assert "There is no such page." in page.js("document.querySelector('main').innerText")


def test_hostile_names_and_texts_stay_text(page: Page, site: Path) -> None:
    for fragment in ("#/?lang=en", "#/task/zh%2Fsentiment%20%C2%B7%20reviews?lang=en"):
        page.open(site, fragment)
        assert HOSTILE in page.js("document.querySelector('main').textContent")
        assert page.js("document.querySelectorAll('main img, main script').length") == 0
    page.open(site, "#/?lang=en")
    page.js("[...document.querySelectorAll('#board a')].find(a => a.textContent.startsWith('evil')).click()")
    page.settle()
    assert HOSTILE in page.js("document.querySelector('h2').textContent")
    assert page.js("window.owned") is None


def test_scores_on_texts_that_a_model_was_trained_on_are_marked(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en")
    badges = "[...document.querySelectorAll('#board .badge.warn')]"
    found = page.js(f"{badges}.map(b => [b.closest('tr').dataset.model, b.innerText])")
    assert found == [[HOSTILE, "contaminated"], [HOSTILE, "contaminated 7/120"]]


def test_no_error_and_no_request_but_for_the_file(page: Page, site: Path) -> None:
    page.events.clear()
    for fragment in ("#/", "#/model/small", "#/task/en%2Fsentiment%20%C2%B7%20films"):
        page.open(site, fragment)
    assert page.said("Runtime.exceptionThrown") == [] and page.said("Log.entryAdded") == []
    asked = {r["request"]["url"].split("#")[0] for r in page.said("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith(("about:", "data:"))} == {site.resolve().as_uri()}


def test_the_keyboard_is_enough(page: Page, site: Path) -> None:
    page.open(site, "#/?lang=en")
    page.press("Tab", 9)
    assert page.js("document.activeElement.id") == "skip"
    page.js("document.querySelector('#board thead button').focus()")
    page.press("Tab", 9)
    assert page.js("document.activeElement.innerText") == "Model"
    page.press("Enter", 13, "\r")
    assert page.js("document.querySelector('#board th[aria-sort=ascending]').innerText") == "Model"
    assert page.js("document.activeElement.innerText") == "Model"


@pytest.mark.parametrize("fragment", ["#/", "#/model/large", "#/task/zh%2Fsentiment%20%C2%B7%20reviews"])
def test_on_a_phone_only_tables_scroll_sideways(page: Page, site: Path, fragment: str) -> None:
    page.size(390, 844)
    try:
        page.open(site, fragment)
        assert page.js("document.documentElement.scrollWidth") <= 390
    finally:
        page.size(1280, 900)


def test_without_scripts_the_standings_are_there(site: Path) -> None:
    text = site.read_text(encoding="utf-8")
    inside = text.split("<noscript>")[1].split("</noscript>")[0]
    assert "<bdi>large</bdi>" in inside and "evil&lt;/script&gt;" in inside
    assert text.count("<script") == 2 and "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_one_board_gives_the_same_bytes_twice(tmp_path: Path, reviews: Rows) -> None:
    made = Made(tmp_path / "results", reviews[:20])
    results = [made.run("a", 0.6), made.run("b", 0.7), made.baseline()]
    build(results, tmp_path / "one")
    build(results[::-1], tmp_path / "two")
    for name in ("index.html", "leaderboard.md", "leaderboard.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_fifty_models_on_six_tasks_stay_under_500_kb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field = fifty_models()
    monkeypatch.setattr("zhiling.eval_tasks.leaderboard.read_field", lambda _: field)
    rows = build([], tmp_path)
    assert len([r for r in rows if r.tier]) == 150
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sum(sizes.values()) < 500_000, sizes
    assert '"samples":[[' in (tmp_path / "index.html").read_text(encoding="utf-8")


def fifty_models() -> Field:
    """Fifty models at 0, 1 and 4 shots on six tasks of 2 to 67 classes, twelve templates each."""
    random = np.random.default_rng(0)
    models = {f"organisation/model-{i}-instruct": Model(
        f"organisation/model-{i}-instruct", "causal", {"parameters": 10**9, "tokens_seen": 10**12, "digest": "d" * 64},
        ({"date": "2026-01-02", "machine": "2 CPU cores", "versions": {"zhiling": "0.1.0"}},),
    ) for i in range(50)}
    tallies = {}
    for n, classes in enumerate((2, 2, 3, 4, 15, 67)):
        task = TaskKey(f"zh/task-{n}", "data")
        for name in models:
            for shots in (0, 1, 4):
                tallies[name, task, shots] = random_tally(random, task, shots, classes)
    tasks = {task: {"pack_version": "1.0.0"} for _, task, _ in tallies}
    return Field(models, tallies, tasks, frozenset())


def random_tally(random: np.random.Generator, task: TaskKey, shots: int, classes: int) -> Tally:
    templates, items = tuple(f"template_{i}" for i in range(12)), tuple(f"s{i}" for i in range(100))
    names = tuple(f"类别{i}" for i in range(classes))
    targets = np.tile(np.random.default_rng(classes).integers(0, classes, 100), (12, 1))
    answers = np.where(random.random((12, 100)) < 0.6, targets, random.integers(0, classes, (12, 100)))
    prompt = "一条有一百来个字的示例和它的答案，" * 8 * (shots + 1)
    kept = tuple(Sample(
        "t", task.pack, templates[i], shots, items[i], items[i], f"{prompt}{i}", f"{task}{shots}{i}", names,
        tuple(-random.random(classes)), names[0], names[1 % classes], 0.0,
    ) for i in range(3))
    return Tally(
        task, shots, templates, items, items, (targets == answers).astype(float), targets, answers, (names,) * 12,
        1 / classes, random.random(1200), random.integers(0, 2, 1200), kept,
    )


def test_a_number_that_json_does_not_have_is_null_on_the_page() -> None:
    assert script_json({"a": [float("nan"), 1.5], "b": float("-inf")}) == '{"a":[null,1.5],"b":null}'
