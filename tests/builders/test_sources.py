"""What a recipe may say of a corpus, and what YAML makes of it."""

import pytest

from zhiling.builders.sources import CorpusSettings


def test_numbers_for_labels_need_no_quotation_marks() -> None:
    given = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.csv"}]}
    found = CorpusSettings.model_validate({**given, "labels": {1: "positive", -1: 0}})
    assert found.labels == {"1": "positive", "-1": "0"}
    for value in (True, 1.0, None):  # `yes`, `1.0` and `null` for YAML
        with pytest.raises(ValueError, match="put it in quotes"):
            CorpusSettings.model_validate({**given, "labels": {value: "positive"}})


def test_a_link_leads_to_the_web() -> None:
    given = {"name": "c", "pack": "p", "license": "MIT", "files": [{"path": "a.csv"}]}
    assert CorpusSettings.model_validate({**given, "url": "https://example.org/a?b=c"}).url
    for url in ("javascript:alert(1)", "https://a> [x](b)", "file:///etc/passwd", "https://a\nb"):
        with pytest.raises(ValueError, match="url"):
            CorpusSettings.model_validate({**given, "url": url})
