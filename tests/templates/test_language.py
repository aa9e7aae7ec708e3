"""The language of packs: what parses, and what is said of what does not."""

import pytest

from zhiling.templates.language import SourceError, parse_expression, parse_text


def test_what_packs_need_is_in_the_language() -> None:
    for source in [
        "{% for x in a if x %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% else %}{% endfor %}",
        "{{ a | map('json') | list }}",
        "{% set x = a[1:-1] ~ 'b' %}{{ x }}", "{% filter trim %}{{ a }}{% endfilter %}",
        "{% set x %}{{ a }}{% endset %}{{ x }}",
        "{{ a.split(',') | first }}", "{{ range(3) | list }}",
        "{{ a if a is defined and a not in [1] else {'k': (1, 2)}['k'] }}",
        "{# nothing #}{% raw %}{{ b }}{% endraw %}", "{% if a %}{% elif not a %}{% endif %}",
    ]:
        parse_text(source, ["a"])
    parse_expression("a | length > 3 and 'x' in a", ["a"])


@pytest.mark.parametrize(("source", "said"), [
    ("a\n{{ a }}\n{{ b }}", "line 3: uses the undefined name 'b'; did you mean 'a'?"),
    (
        "a\n{{ a | upperr }}",
        "line 2: uses the filter 'upperr', which packs do not have; did you mean 'upper'?",
    ),
    ("\n\n{% if a %}", "line 3: does not parse (Unexpected end of template."),
    ("{{ a is evenn }}", "line 1: uses the test 'evenn', which packs do not have; did you mean 'even'?"),
    ("{{ a.splitt() }}", "line 1: calls 'splitt', which packs do not have; did you mean 'split'?"),
])
def test_what_is_wrong_is_said_with_its_line(source: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_text(source, ["a", "known"])
    assert str(caught.value).startswith(said.replace("did you mean 'a'?", "known: a, known"))


def test_constants_are_not_worked_out_while_parsing() -> None:
    parse_text("{{ 'a' * 99999999999999 }}{{ [1] * 99999999999999 }}{{ 'x' | replace('', 'y' * 999) }}", [])


@pytest.mark.parametrize("source", ["a b", "a }} {{ a", "a %}", "", "a;", "a if"])
def test_an_expression_is_one_expression(source: str) -> None:
    with pytest.raises(SourceError, match="does not parse"):
        parse_expression(source, ["a", "b"])
