"""What a preview shows, on the terminal and as Markdown: all of a row, none of it as markup."""

import json
from pathlib import Path

import pytest

from tests.templates.strategies import make_pack
from zhiling.errors import UserError
from zhiling.templates.pack import Pack
from zhiling.templates.preview import as_markdown, as_text, heading, preview, visible

ROWS = [{"text": "好", "label": "positive"}, {"text": "<b>@坏</b>\n\n[x](y)", "label": "negative"}]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    plain = {"prompt": "评：{{ text }}\n感情：", "completion": "{{ verbalizer[label] }}"}
    return make_pack(tmp_path, plain, {**plain, "when": "label == 'positive'"})


def test_a_preview_for_each_template_and_row_with_its_answer_last(pack: Pack) -> None:
    shown = preview(pack, None, ROWS)
    assert [(p.template, p.example) for p in shown] == [("t0", 0), ("t0", 1), ("t1", 0), ("t1", 1)]
    assert [(s.text, s.origin) for s in shown[0].spans] == [
        ("评：", "template"), ("好", "row"), ("\n感情：", "template"), ("正面", "answer"),
    ]
    assert shown[0].choices == ("负面", "正面")
    assert as_text(shown[3]).plain == "the template is not for this row"


def test_shots_stand_before_the_row(pack: Pack) -> None:
    text = "".join(span.text for span in preview(pack, ["t0"], ROWS, shots=1)[0].spans)
    assert text == "评：<b>@坏</b>\n\n[x](y)\n感情：负面\n\n评：好\n感情：正面"


def test_tokens_are_counted_with_the_tokenizer_given(pack: Pack, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {c: i for i, c in enumerate("?评：好感情正面")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    shown = preview(pack, ["t0"], ROWS[:1], tokenizer=tmp_path)[0]
    assert shown.tokens == (7, 2)
    assert heading(shown) == "zh/trial · t0 · row 1 · 9 characters, 7 + 2 tokens"


def test_a_folder_without_a_tokenizer_is_refused(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer.json in it; give the folder of a tokenizer or of a model"):
        preview(pack, None, ROWS, tokenizer=tmp_path / "none")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer"):
        preview(pack, None, ROWS, tokenizer=tmp_path)


def test_markdown_shows_a_rows_markup_as_text(pack: Pack) -> None:
    text = as_markdown(preview(pack, ["t0"], ROWS[1:]))
    assert "<i>&lt;b&gt;&#64;坏&lt;/b&gt;&#10;&#10;[x](y)</i>" in text
    assert "<b>负面</b>" in text and "@" not in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_a_long_text_is_cut_in_markdown(pack: Pack) -> None:
    assert len(as_markdown(preview(pack, ["t0"], [{"text": "长" * 9000, "label": "positive"}]))) < 3000


@pytest.mark.parametrize(("text", "shown"), [
    ("a\x1b[31mb", "a⟨1b⟩[31mb"), ("\u202eabc", "⟨202e⟩abc"), ("全\u3000角\n行", "全\u3000角\n行"),
])
def test_characters_that_steer_a_terminal_show_their_number(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_refused_row_says_why(tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "x", {"prompt": "{{ text }}：", "completion": "{{ label }}"})
    (shown,) = preview(pack, None, ROWS[:1])
    assert shown.refusal == "completion 'positive' is not among the choices"
    assert shown.refusal in as_text(shown).plain and "&#x27;positive&#x27;" in as_markdown([shown])
    assert json.dumps(shown.refusal)
