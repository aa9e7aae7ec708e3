"""Rows are looked at one by one: masked with their spans in place, dropped without leaving the datum in the rejects."""

import json
from typing import Any

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.screen import ScreenSettings, masked, screen
from zhiling.store import read_json

COLUMNS: Any = {"text": "string", "entities": "spans", "about": "json", "label": "label"}
ROW = {
    "text": "电话13812345678，找张三", "entities": [
        {"start": 2, "text": "13812345678", "label": "phone"}, {"start": 15, "text": "张三", "label": "person"},
    ], "about": '{"phone":13812345678,"who":"张三"}', "label": "x",
}


def looked_at(**personal: Any) -> Any:
    return screen(ROW, COLUMNS, "zh", ScreenSettings.model_validate({"personal_data": personal or None}))


def test_reporting_changes_nothing() -> None:
    seen = looked_at(action="report")
    assert (seen.fields, seen.kinds, seen.refusal) == (ROW, ["mobile"], None)
    assert looked_at().kinds == []


def test_masking_keeps_every_span_on_its_text_and_json_valid() -> None:
    fields = looked_at(action="mask").fields
    assert fields["text"] == "电话[MOBILE]，找张三"
    assert [fields["text"][s["start"] :][: len(s["text"])] for s in fields["entities"]] == ["[MOBILE]", "张三"]
    assert [s["text"] for s in fields["entities"]] == ["[MOBILE]", "张三"]
    assert json.loads(fields["about"]) == {"phone": "[MOBILE]", "who": "张三"}


def test_no_span_keeps_what_its_text_has_lost_wherever_it_says_that_it_stands() -> None:
    spans = [{"start": s, "text": "13812345678", "label": "phone"} for s in (2, None, 7, -1)]
    row = {**ROW, "entities": spans}
    for given in ({"personal_data": {"action": "mask"}},
                  {"personal_data": {"action": "mask"}, "quality": {"min_characters": 99}}):
        seen = screen(row, COLUMNS, "zh", ScreenSettings.model_validate(given))
        assert [(s["start"], s["text"]) for s in seen.fields["entities"]] == [
            (2, "[MOBILE]"), (None, "[MOBILE]"), (7, "[MOBILE]"), (-1, "[MOBILE]"),
        ]


def test_json_is_masked_in_its_names_and_its_numbers() -> None:
    settings = ScreenSettings.model_validate({"personal_data": {"action": "mask"}})
    fields = screen({**ROW, "about": '{"13812345678":13812345678.0,"n":1.5}'}, COLUMNS, "zh", settings).fields
    assert json.loads(fields["about"]) == {"[MOBILE]": "[MOBILE].0", "n": 1.5}


def test_what_a_source_calls_spans_may_be_anything_in_a_reject() -> None:
    settings = ScreenSettings.model_validate({"personal_data": {"action": "mask"}})
    odd = {"text": "13812345678", "x": [{"start": 0}, {"start": "0", "text": "13812345678"}, 3, {"start": 1}]}
    assert masked(odd, settings)["x"][1] == {"start": "0", "text": "[MOBILE]"}
    placed = {"text": "找13812345678", "x": [{"start": 1, "text": "13812345678"}, {"start": 0}]}
    assert masked(placed, settings)["x"] == [{"start": 1, "text": "[MOBILE]"}, {"start": 0}]


def test_dropping_names_the_kind_and_masks_the_reject() -> None:
    seen = looked_at(action="drop")
    assert seen.refusal == ("personal_data", "mobile")
    assert "13812345678" not in json.dumps(seen.fields)


def test_in_a_release_the_ledger_counts_them_and_no_file_holds_them(make: RecipeMaker, reviews: list[Any]) -> None:
    bad = [{"text": f"联系我：1381234567{i}", "label": "positive"} for i in range(3)]
    broken = ['{"text": "电话13900001111", "label"', {"text": "好", "label": "positive"}]
    make.corpus([*reviews[:200], *bad, *broken])
    clean = {"personal_data": {"action": "drop"}, "quality": {"min_characters": 2}}
    release = build(make.recipe(clean=clean), make.folder / "out")
    ledger = read_json(release / "manifest.json")["ledger"]["reviews"]
    assert ledger["rejects"]["screen: personal_data"] == 3
    assert ledger["rejects"]["screen: too_short"] >= 1
    screened = sum(n for reason, n in ledger["rejects"].items() if reason.startswith("screen: "))
    assert ledger["rows_read"] - ledger["rows_screened"] == screened
    assert ledger["rows_in_sources"] == 205
    for path in release.rglob("*"):
        assert not path.is_file() or b"138123456" not in path.read_bytes()
        assert not path.is_file() or b"13900001111" not in path.read_bytes()
