"""Public data sets as tasks, on the real files; what each states; what is refused."""

import json
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.public import PUBLIC, ask_public, find_public
from zhiling.eval_tasks.rendered_tasks import public_tasks

ROWS = {"fewclue/eprstmt": 610, "fewclue/tnews": 2010, "fewclue/ocnli": 2520, "fewclue/bustm": 1772,
        "fewclue/csldcp": 1784, "cmrc2018": 1002, "thucnews": 10_000, "sst2": 1820}


def test_each_states_source_licence_and_metric() -> None:
    assert {f"fewclue/{t}" for t in "eprstmt tnews ocnli bustm csldcp iflytek csl chid cluewsc".split()} < PUBLIC.keys()  # noqa: SIM905
    for public in PUBLIC.values():
        assert public.source.startswith("https://") and public.license and public.metric


@pytest.mark.parametrize("name", ROWS)
def test_real_files_become_documents(name: str, shared_data: Path, tmp_path: Path) -> None:
    shots = (0, 2) if "train" in PUBLIC[name].files else (0,)
    asked = ask_public(find_public(name), str(shared_data))
    assert len(asked.test.ids) >= 0.97 * ROWS[name]  # equal rows are one, rows left open by the authors are none
    tasks = public_tasks(name, str(shared_data), tmp_path, shots, limit=30)
    assert {t.shots for t in tasks} == set(shots)
    for task in tasks:
        documents = task.documents().to_pylist()
        assert 0 < len(documents) <= 30
        assert {d["pack"] for d in documents} == {name}
        assert all(d["choices"] is None or d["choices"][d["answer"]] == d["completion"] for d in documents)
        assert task.metadata["license"] == PUBLIC[name].license


def test_exemplars_hang_on_the_document_and_the_seed_only(shared_data: Path, tmp_path: Path) -> None:
    def prompts(folder: str, limit: int, seeds: tuple[int, ...] = (0,), fixed: bool = False) -> dict[str, str]:
        data, out = str(shared_data), tmp_path / folder
        tasks = public_tasks("fewclue/bustm", data, out, (3,), seeds, ["question"], limit, fixed)
        return {d["source_id"]: d["prompt"] for d in tasks[-1].documents().to_pylist()}

    few, many = prompts("a", 20), prompts("b", 60)
    assert few == {i: many[i] for i in few}
    other = prompts("c", 20, (0, 1))
    assert other.keys() == few.keys() and all(other[i] != few[i] for i in few)
    fixed = prompts("d", 20, fixed=True)
    assert len({p.rpartition("\n\n")[0] for p in fixed.values()}) == 1


def test_wsc_idioms_and_keywords_by_the_pattern(tmp_path: Path) -> None:
    rows = {
        "cluewsc": {"target": {"span2_index": 9, "span1_index": 0, "span1_text": "行李箱", "span2_text": "它"},
                    "text": "行李箱塞不进去，因为它太大了", "label": "true", "idx": 0},
        "chid": {"content": "早就#idiom#了。", "candidates": ["绰绰有余", "入不敷出"], "answer": 1, "id": 1},
        "csl": {"abst": "设计了一种采茶机。", "keyword": ["采茶机", "漏采率"], "label": "1", "id": 1},
        "iflytek": {"sentence": "一款打车软件", "label": "0", "label_des": "打车"},
    }
    for task, row in rows.items():
        folder = tmp_path / "fewclue" / task
        folder.mkdir(parents=True)
        for split in ("train_few_all", "test_public"):
            (folder / f"{split}.json").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
        (document, *_) = public_tasks(f"fewclue/{task}", str(tmp_path), tmp_path / "out")[0].documents().to_pylist()
        right = {"cluewsc": "是", "chid": "入不敷出", "csl": "是", "iflytek": "打车"}[task]
        assert document["completion"] == right


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'fewclue/tnews'"):
        find_public("fewclue/tnew")
    with pytest.raises(UserError, match="give the folder that holds the public files"):
        ask_public(find_public("fewclue/tnews"), str(tmp_path))
    (tmp_path / "fewclue" / "tnews").mkdir(parents=True)
    for split in ("train_few_all", "test_public"):
        (tmp_path / "fewclue" / "tnews" / f"{split}.json").write_text('{"sentence": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="a row without what fewclue/tnews has"):
        ask_public(find_public("fewclue/tnews"), str(tmp_path))
    (tmp_path / "fewclue" / "tnews" / "test_public.json").write_text('{"sentence": \n', encoding="utf-8")
    with pytest.raises(UserError, match=r"test_public\.json:1: not JSON"):
        ask_public(find_public("fewclue/tnews"), str(tmp_path))
