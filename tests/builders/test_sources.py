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
