"""What a recipe's `eval:` section may say: which tasks, how many documents, how they are scored."""

from typing import Annotated, Literal

from pydantic import Field

from zhiling.settings import Settings

Shots = Annotated[int, Field(ge=0, le=64)]


class EvalSettings(Settings):
    """How models are scored on a release's test rows; null means all that the release holds."""

    packs: list[str] | None = None
    templates: list[str] | None = None
    shots: list[Shots] | None = None
    limit: int | None = Field(None, ge=1)         # documents per task: the first ones, the same for every template
    generation: bool = False                      # free-text templates too; slow
    bits_per_byte: bool = False                   # also how well the model foresees the release's test texts
    allow_code: bool = False                      # run code that the model wrote against its tests, fenced in
    backend: Literal["zhiling", "hf"] = "zhiling"  # our scorer, or lm-eval's own
    batch_tokens: int | None = Field(None, ge=64)  # tokens in one forward pass; null: what suits the device
    too_long: Literal["truncate", "fewer_shots", "error"] = "truncate"  # what becomes of prompts beyond the context
    seeds: int = Field(1, ge=1, le=20)            # draws of exemplars, where documents are rendered for the run
    fixed_shots: bool = False                     # the same exemplars for every document, there
    data: str | None = Field(None, exclude=True)  # folder of public data sets' files, for tasks of such
    check_contamination: bool = False             # mark test texts that the model's lineage says it was trained on
    prompts: bool = True                          # false: samples without texts that are not ours to give on
    compress: bool = False                        # samples as .jsonl.gz
    processes: int = Field(1, ge=1, exclude=True)  # that score tasks side by side; scores do not hang on it
    seed: int = 42                                # of bootstrap draws
    bootstrap: int = Field(10_000, ge=0)          # draws for the leaderboard's intervals; 0 for none
