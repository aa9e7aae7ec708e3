"""What sources allow: one licence where they agree, `other` where they do not, and obstacles named."""

import pytest

from zhiling.builders.licenses import derived, identifier, obstacles


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"a": "MIT"}, "mit"),
        ({"a": "MIT", "b": "Apache-2.0"}, "apache-2.0"),
        ({"a": "MIT", "b": "CC BY-SA 4.0"}, "cc-by-sa-4.0"),
        ({"a": "MIT", "b": "CC BY-NC 4.0"}, "cc-by-nc-4.0"),
        ({"a": "CC BY-SA 4.0", "b": "CC BY-NC 4.0"}, "other"),
        ({"a": "our own terms"}, "other"),
        ({"a": "MIT", "b": "our own terms"}, "other"),
    ],
)
def test_a_release_carries_the_licence_that_all_sources_flow_into(stated: dict[str, str], expected: str) -> None:
    assert derived(stated) == expected


def test_licences_are_written_as_the_hub_writes_them() -> None:
    assert identifier(" CC BY-SA 4.0 ") == "cc-by-sa-4.0"
    assert identifier("Apache-2.0") == "apache-2.0"


def test_sources_that_forbid_sharing_or_say_nothing_are_named() -> None:
    stated = {"reviews": "MIT", "news": "unknown", "exams": "no-redistribution", "songs": "CC BY-ND 4.0"}
    found = [(o.corpus, o.why) for o in obstacles(stated)]
    assert found == [
        ("exams", "forbids sharing"),
        ("news", "states no licence"),
        ("songs", "forbids sharing what is made from it"),
    ]


@pytest.mark.parametrize("stated", ["CC BY-ND 3.0", "cc-by-nd-2.5", "CC BY-NC-ND", "No license", "Not stated", "null"])
def test_neither_version_nor_case_of_a_licence_matters(stated: str) -> None:
    assert [o.corpus for o in obstacles({"songs": stated})] == ["songs"]
