"""Packs out of promptsource's prompts, and a report of what became of each: kept, mapped or refused, and why.

In: prompts that have been read. Out: an `Entry` for each, and packs (one a dataset) of those that have a prompt
and a completion of their own. The others still render through `promptsource.apply`; only what cannot be compiled
is refused.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from jinja2 import meta

from zhiling.errors import UserError
from zhiling.rows import RESERVED
from zhiling.store import atomic_folder, write_text
from zhiling.templates.language import SourceError, parse_expression, parse_text
from zhiling.templates.pack import NAMES, read_pack
from zhiling.templates.promptsource import ImportedPrompt, compile_prompt, slug
from zhiling.templates.promptsource_columns import column_types
from zhiling.templates.promptsource_sandbox import environment
from zhiling.templates.promptsource_split import Unsplittable, choices_expression, fixed_choices, split_source

LANGUAGES = ("zh", "en")
METRICS = {  # promptsource's names; those without a counterpart are noted in the report
    "Accuracy": "accuracy", "BLEU": "bleu", "ROUGE": "rouge_l", "Squad": "f1_span", "Trivia QA": "exact_match",
    "AUC": "auc", "COQA F1": "f1_span",
}
GIVEN = {"range", "zip", "namespace", "answer_choices"}
Outcome = str  # "pack", "kept" (renders, but is no pack's) or "refused"


@dataclass(frozen=True)
class Entry:
    """What became of a prompt."""

    dataset: str
    subset: str | None
    name: str
    outcome: Outcome
    why: str = ""                 # where it is in no pack
    pack: str | None = None
    template: str | None = None
    mapped: tuple[str, ...] = ()  # what is called or done otherwise than in promptsource

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


def import_prompts(prompts: Sequence[ImportedPrompt], out: Path | None = None) -> list[Entry]:
    """An entry for each prompt; packs are written below `out` where it is given. Raises UserError if one is there."""
    groups: dict[str, list[ImportedPrompt]] = defaultdict(list)
    for prompt in prompts:
        groups[prompt.pack].append(prompt)
    entries, packs = [], {}
    for name, group in groups.items():
        document, found = make_pack(name, group)
        entries += found
        if document:
            packs[name] = document
    if out is not None:
        _write(packs, out)
    return entries


def _write(packs: Mapping[str, dict[str, Any]], out: Path) -> None:
    """Write packs' files; nothing where one of them is there already."""
    there = next((out / name for name in packs if (out / name).exists()), None)
    if there is not None:
        raise UserError(str(there), "it is there already", "give another folder with -o")
    for name, document in packs.items():
        with atomic_folder(out / name) as folder:
            write_text(folder / "pack.yaml", as_yaml(document))


def make_pack(name: str, group: Sequence[ImportedPrompt]) -> tuple[dict[str, Any] | None, list[Entry]]:
    """One pack's document, or None where none of the prompts can be in it, and an entry for each of them."""
    names = _names(group)
    entries, templates, split = [], [], []
    for prompt in group:
        outcome, why, template, mapped = _convert(prompt, names)
        if template is not None:
            templates.append(template)
            split.append(prompt)
        place = {"pack": name, "template": prompt.slug} if template is not None else {}
        about = (prompt.dataset, prompt.subset, prompt.settings.name)
        entries.append(Entry(*about, outcome, why, **place, mapped=tuple(mapped)))
    if not templates:
        return None, entries
    document = _document(name, split, templates, names)
    try:
        _check(name, document)
    except UserError as error:
        return None, [e if e.outcome == "refused" else _left_out(e, f"{error.saw}; {error.do}") for e in entries]
    return document, entries


def _left_out(entry: Entry, why: str) -> Entry:
    return Entry(entry.dataset, entry.subset, entry.name, "kept", entry.why or why)


def _names(group: Sequence[ImportedPrompt]) -> dict[str, str]:
    """What each variable of the prompts is called in a pack."""
    used: set[str] = set()
    for prompt in group:
        for source in (prompt.settings.jinja, prompt.settings.answer_choices):
            try:
                used |= meta.find_undeclared_variables(environment().parse(source or ""))
            except Exception:  # it is refused below, with the reason
                continue
    names, taken = {"answer_choices": "choices"}, set(RESERVED | NAMES)
    for column in sorted(used - GIVEN, key=lambda name: (slug(name) != name, name)):
        plain = slug(column, 50)
        new = next(n for n in (plain, *(f"{plain}_{i}" for i in range(2, 1000))) if n not in taken)
        taken.add(new)
        names[column] = new
    return names


def _convert(
    prompt: ImportedPrompt, names: Mapping[str, str]
) -> tuple[Outcome, str, dict[str, Any] | None, list[str]]:
    """What becomes of a prompt, why, and its template in a pack with what was mapped."""
    settings = prompt.settings
    try:
        compile_prompt(prompt)
    except UserError as error:
        return "refused", error.saw, None, []
    languages = settings.metadata.languages or ["en"]
    if not set(languages) & set(LANGUAGES):
        return "kept", f"packs are in Chinese or English, this is in {', '.join(languages)}", None, []
    try:
        text, completion = split_source(settings.jinja, names)
        template: dict[str, Any] = {"name": prompt.slug, "prompt": text, "completion": completion}
        known = {*names.values(), *NAMES}
        parse_text(text, known)
        parse_text(completion, known)
        if settings.answer_choices is not None:
            expression = choices_expression(settings.answer_choices, names)
            parse_expression(expression, known)
            template["choices"] = fixed_choices(expression) or expression
    except Unsplittable as error:
        return "kept", str(error), None, []
    except SourceError as error:
        return "kept", error.saw, None, []
    mapped = _notes(prompt, names, template)
    return "pack", "", template, mapped


def _notes(prompt: ImportedPrompt, names: Mapping[str, str], template: dict[str, Any]) -> list[str]:
    """What is otherwise than in promptsource; metrics are put into the template."""
    metadata, source = prompt.settings.metadata, prompt.settings.jinja
    known = [METRICS[name] for name in metadata.metrics or [] if name in METRICS]
    notes = [f"metric {name} has no counterpart" for name in metadata.metrics or [] if name not in METRICS]
    if known:
        template["metrics"] = list(dict.fromkeys(known))
    if prompt.slug != prompt.settings.name:
        notes.append(f"called {prompt.slug}")
    used = meta.find_undeclared_variables(environment().parse(source)) - GIVEN
    notes += [f"column {old} is {names[old]}" for old in sorted(used & names.keys()) if names[old] != old]
    if "draw" in template["prompt"] + template["completion"]:
        notes.append("what promptsource draws by chance is drawn by the row's id")
    about = [f"From promptsource: {prompt.settings.name}"]
    if prompt.settings.reference:
        about.append(f"Reference: {prompt.settings.reference}")
    if metadata.original_task is not None:
        about.append("the dataset's own task" if metadata.original_task else "not the dataset's own task")
    template["note"] = "; ".join(about)
    return notes


def _document(
    name: str, group: Sequence[ImportedPrompt], templates: list[dict[str, Any]], names: Mapping[str, str]
) -> dict[str, Any]:
    first = group[0]
    types = column_types((p.settings.jinja, p.settings.answer_choices) for p in group)
    columns = {names[column]: kind for column, kind in sorted(types.items()) if column not in GIVEN}
    renamed = {names[old]: old for old in sorted(types) if old not in GIVEN and names[old] != old}
    corpus: dict[str, Any] = {"hub": first.dataset, "config": first.subset, "columns": renamed, "license": "unknown"}
    corpus["note"] = "Promptsource does not name the data's licence: see the dataset's card."
    of = f"{first.dataset}/{first.subset}" if first.subset else first.dataset
    return {
        "pack": name, "version": "1.0.0", "summary": f"Promptsource's prompts for {of}",
        "task": "classification" if any("choices" in t for t in templates) else "generation",
        "language": name[:2], "license": "Apache-2.0", "columns": columns,
        "corpora": [{key: value for key, value in corpus.items() if value}], "templates": templates,
    }


def _check(name: str, document: dict[str, Any]) -> None:
    """Raise UserError where the pack cannot be read."""
    with TemporaryDirectory() as folder:
        write_text(Path(folder) / name / "pack.yaml", as_yaml(document))
        read_pack(Path(folder) / name)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, as a person would write them; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_yaml(document: dict[str, Any]) -> str:
    """A pack's document as its file."""
    return yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1000)


def summary(entries: Sequence[Entry]) -> list[list[Any]]:
    """How many prompts had each outcome, and why."""
    counts = Counter((entry.outcome, entry.why) for entry in entries)
    order = {"pack": 0, "kept": 1, "refused": 2}
    return [[o, why, n] for (o, why), n in sorted(counts.items(), key=lambda item: (order[item[0][0]], -item[1]))]
