"""What a person may get wrong, at the command line: one clear line each, exit 2, and nothing written or run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zhiling.cli import run_args
from zhiling.store import MANIFEST, read_json, write_json, write_manifest


def with_keys(file: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / file, {**read_json(folder / file), **changes})


def of_another_tokenizer(folder: Path) -> None:
    """More words than the model knows."""
    about = read_json(folder / "tokenizer.json")
    more = [{**about["added_tokens"][0], "id": 400 + i, "content": f"<|more{i}|>"} for i in range(8)]
    write_json(folder / "tokenizer.json", {**about, "added_tokens": [*about["added_tokens"], *more]})


def with_code(file: str, kind: str) -> Callable[[Path], None]:
    """A config that wants `theirs.py` to be run, which would leave a file behind."""
    def change(folder: Path) -> None:
        (folder / "theirs.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass It: pass\n", encoding="utf-8")
        named = ["theirs.It", "theirs.It"] if kind == "AutoTokenizer" else "theirs.It"
        own: dict[str, Any] = {"auto_map": {kind: named, "AutoConfig": "theirs.It"}}
        own |= {"tokenizer_class": "It"} if kind == "AutoTokenizer" else {"model_type": "theirs"}
        with_keys(file, **own)(folder)

    return change


def cut_short(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_base(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").unlink()
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "someone/base"})


@pytest.mark.parametrize(("change", "said"), [
    (of_another_tokenizer, "its tokenizer has 408 tokens, its model knows 400; put the model's own tokenizer"),
    (with_code("config.json", "AutoModelForCausalLM"), "asks to run code of its own, which is never done"),
    (with_code("tokenizer_config.json", "AutoTokenizer"), "asks to run code of its own, which is never done; give"),
    (pickled, "weights are pickled (pytorch_model.bin), which can run code; save the model as safetensors"),
    (cut_short, "cannot be read (SafetensorError: Error while deserializing header: incomplete metadata"),
    (with_keys("config.json", num_hidden_layers=3), "no weights for model.layers.2.input_layernorm.weight (9 missing)"),
    (with_keys("config.json", hidden_size=64), "weights of other sizes than its config says, as model.embed"),
    (with_keys("config.json", max_position_embeddings=0), "its config has no max_position_embeddings; give a model"),
    (with_keys("config.json", architectures=7, model_type=None), "cannot be read (ValueError: "),
    (with_keys("config.json", model_type="nosuch"), "cannot be read (ValueError: The checkpoint you are"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be read ("),
    (lambda folder: (folder / "config.json").write_text("{"), "config.json: not valid JSON ("),
    (without_base, "its base model 'someone/base' is no model folder here; set base_model_name_or_path"),
    (lambda folder: shutil.rmtree(folder), "no config.json in it; give the folder of a transformers model"),
])
def test_a_model_that_cannot_be_trained_on_is_one_line(
    release: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    change: Callable[[Path], Any], said: str,
) -> None:
    model = Path(shutil.copytree(pretrained, tmp_path / "theirs"))
    (model / MANIFEST).unlink()
    change(model)
    before = sorted(tmp_path.rglob("*"))
    assert run_args(["train", "instruct", str(release), str(model), "-o", str(tmp_path / "mine")]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"error: {model}") and said in err, err
    left = [p for p in sorted(tmp_path.rglob("*")) if p not in before]
    assert [p.name for p in left] in ([], [".mine.work", "settings.json"])  # no code ran, no model came of it


def test_a_model_beside_another_s_tokenizer_predicts_nothing(
    pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(pretrained, tmp_path / "theirs"))
    of_another_tokenizer(model)
    (tmp_path / "a.txt").write_text("好\n", encoding="utf-8")
    assert run_args(["predict", str(model), "zh/sentiment", str(tmp_path / "a.txt")]) == 2
    said = "its tokenizer has 408 tokens, its model knows 400; put the model's own tokenizer beside it"
    assert capfd.readouterr() == ("", f"error: {model}: {said}\n")


def without_rows(side: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in (folder / "data").glob(f"{side}-*.parquet"):
            pq.write_table(pq.read_table(path).slice(0, 0), path)
        about = read_json(folder / MANIFEST)
        write_manifest(folder, "release", {k: v for k, v in about.items() if k not in ("kind", "files")})

    return change


def with_a_shard_cut_short(folder: Path) -> None:
    path = next((folder / "data").glob("train-*.parquet"))
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("change", "said"), [
    (without_rows("train"), "data: no train rows; build a release of more rows or other shares"),
    (without_rows("validation"), "data: no validation rows; build a release of more rows or other shares"),
    (with_a_shard_cut_short, "train-00000-of-00001.parquet: missing or not as the manifest says; get or build"),
    (lambda folder: (folder / MANIFEST).unlink(), "no manifest.json in it; give the folder of a release"),
    (with_keys(MANIFEST, files=None), "manifest.json: no `files` in it, or none that can be used; get"),
    (with_keys(MANIFEST, corpora=[1]), "manifest.json: no `corpora` in it, or none that can be used; get"),
])
def test_a_release_that_cannot_be_trained_on_is_one_line(
    release: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    change: Callable[[Path], Any], said: str,
) -> None:
    theirs = Path(shutil.copytree(release, tmp_path / "theirs"))
    change(theirs)
    assert run_args(["train", "instruct", str(theirs), str(pretrained), "-o", str(tmp_path / "mine")]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"error: {theirs}") and said in err, err
    assert not (tmp_path / "mine").exists() and not (tmp_path / ".mine.work").exists()


def test_rows_longer_than_the_context_are_counted(
    release: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A context that no completion fits: every row is refused by name, and there is nothing to train on."""
    short = Path(shutil.copytree(pretrained, tmp_path / "short"))
    with_keys("config.json", max_position_embeddings=2)(short)
    assert run_args(["train", "instruct", str(release), str(short), "-o", str(tmp_path / "mine")]) == 2
    assert "no rows to train on; give a longer context or other rows" in capfd.readouterr().err
    lines = (tmp_path / ".mine.work" / "train" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines and all("leaves no room in 2" in json.loads(line)["reason"] for line in lines)


def test_a_disk_that_is_full_is_one_line_and_no_model(
    release: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Weights are written by a library whose error is not the system's."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    asked = ["train", "finetune", str(release), str(pretrained), "-o", str(tmp_path / "m"), "--shots-per-class", "0"]
    try:
        assert run_args(asked) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr().err == "error: output: no room left to write; free some and run the same command again\n"
    assert not (tmp_path / "m").exists() and run_args(asked) == 0


def test_a_place_or_a_size_that_cannot_be_is_one_line(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("train: {tokenizer: {vocabulary: 400}, model: {hidden: 16000000}}\n", encoding="utf-8")
    asked = ["train", "pretrain", str(release), "-r", str(recipe), "-o"]
    assert run_args([*asked, str(recipe / "model")]) == 2
    assert capfd.readouterr().err == f"error: {recipe}/.model.work: not a directory; choose another place\n"
    assert run_args([*asked, str(tmp_path / "m")]) == 2
    assert capfd.readouterr().err == "error: out of memory; ask for less at once, or for a smaller model\n"
