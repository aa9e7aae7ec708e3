"""What a stage learns of a release's rows hangs on the kind of model: texts, conversations, answers at masks."""

from pathlib import Path
from typing import Any

import pytest

from zhiling.trainer.batches import Drawn
from zhiling.trainer.chat import with_chat
from zhiling.trainer.cloze import Cloze
from zhiling.trainer.config import AdapterSettings, InstructSettings
from zhiling.trainer.data import read_examples
from zhiling.trainer.model import load_pair
from zhiling.trainer.stage_rows import drawn_rows


def made(release: Path, folder: Path, parent: Path, **own: Any) -> Drawn:
    (model, tokenizer), table = load_pair(parent), read_examples(release, "validation")
    if own.get("chat"):
        with_chat(model, tokenizer, 1)
    return drawn_rows(folder, table, model, tokenizer, InstructSettings(**own), 1)


@pytest.mark.parametrize(("parent", "kind"), [("pretrained", Drawn), ("encoder", Cloze), ("bert", Cloze)])
def test_a_decoder_learns_texts_and_an_encoder_answers_at_masks(
    request: pytest.FixtureRequest, release: Path, tmp_path: Path, parent: str, kind: type
) -> None:
    assert type(made(release, tmp_path / "rows", request.getfixturevalue(parent))) is kind


def test_conversations_are_longer_by_their_marks(release: Path, pretrained: Path, tmp_path: Path) -> None:
    plain, chat = (made(release, tmp_path / str(flag), pretrained, chat=flag) for flag in (False, True))
    kept = {name: i for i, name in enumerate(plain.rows.ids)}
    lengths = [(plain.rows.lengths[kept[name]], n) for name, n in zip(chat.rows.ids, chat.rows.lengths, strict=True)]
    assert len(lengths) > 20 and all(longer > short for short, longer in lengths if longer < 256)


def test_a_tuned_prompts_place_is_left_free(release: Path, pretrained: Path, tmp_path: Path) -> None:
    adapter = AdapterSettings(method="prompt", virtual_tokens=100)
    assert made(release, tmp_path / "rows", pretrained, adapter=adapter).rows.lengths.max() <= 156
    assert made(release, tmp_path / "all", pretrained).rows.lengths.max() > 156


def test_all_that_is_said_is_learned_where_asked(release: Path, pretrained: Path, tmp_path: Path) -> None:
    counts = made(release, tmp_path / "rows", pretrained, loss_on="prompt_and_completion").rows.counts
    assert counts["learned"] == counts["tokens"]
