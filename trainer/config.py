"""What to train and how: the recipe's `train` section, checked before anything runs.

In: the YAML mapping under `train:`. Out: frozen settings with a default for every key. Refuses unknown keys and
values that cannot train.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from zhiling.settings import Settings

Preset = Literal["pico", "nano", "mini", "small", "medium"]
Method = Literal["plain", "replay", "ewc", "distill", "adapters"]
Tracker = Literal["tensorboard", "trackio", "wandb"]
Parallel = Literal["auto", "none", "ddp", "fsdp"]
METHODS: tuple[str, ...] = get_args(Method)
Side = Literal["train", "validation"]
SIDES: tuple[Side, ...] = ("train", "validation")  # what training may see; the test split is for evaluation


def later(default: Any, **more: Any) -> Any:
    """A key that came after the first release: at its default it is no part of a model's digest, so that models made
    before it stay up to date.
    """
    return Field(default, exclude_if=lambda value: value == default, **more)


class TokenizerSettings(Settings):
    """A byte-level BPE tokenizer, trained on train texts."""

    kind: Literal["bytes", "characters"] = later(
        "bytes", description="characters: no token holds more than one Chinese character"
    )
    vocabulary: int = Field(8000, ge=300, le=200_000, description="tokens, special ones and 256 bytes included")
    learn_from: Literal["texts", "texts_and_prompts"] = Field(
        "texts", description="corpus texts, or rendered prompts too, whose phrases then become few tokens"
    )


class ModelSettings(Settings):
    """A compact model: a preset, of which single sizes may be changed."""

    family: Literal["decoder", "encoder"] = "decoder"
    preset: Preset = "nano"
    context: int = Field(512, ge=16, le=131_072, description="longest input in tokens")
    hidden: int | None = Field(None, ge=16, multiple_of=16)
    layers: int | None = Field(None, ge=1)


class OptimizerSettings(Settings):
    """The optimizer and its schedule: linear warm-up, then a cosine down to `final` of the peak."""

    name: Literal["adamw", "muon"] = Field("adamw", description="muon: for matrices inside blocks, AdamW for the rest")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    muon_learning_rate: float = Field(0.02, gt=0, le=1)
    weight_decay: float = Field(0.1, ge=0, le=10)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps")
    final: float = Field(0.1, ge=0, le=1, description="share of the peak learning rate that the cosine goes down to")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")


class StageSettings(Settings):
    """What every stage knows: how long, in which batches, by which optimizer."""

    epochs: float = Field(1.0, gt=0, le=10_000)
    max_steps: int | None = Field(None, ge=1, description="stop here where the epochs would go further")
    optimizer: OptimizerSettings = OptimizerSettings()
    micro_tokens: int = Field(8192, ge=16, description="most tokens in memory at once")
    validation_rows: int = Field(500, ge=1, description="validation rows, by keyed draw, that choose the checkpoint")
    validate_every: float = Field(1.0, gt=0, description="epochs between validations")
    checkpoint_seconds: float = Field(60.0, ge=0, description="time between checkpoints to resume from")


class MaskSettings(Settings):
    """What a masked model has to guess."""

    share: float = Field(0.3, gt=0, lt=1, description="of the tokens")
    whole_words: bool = Field(True, description="words are masked whole; Chinese ones as jieba segments them")
    span: float = Field(1.0, ge=1, le=10, description="words that are masked together, on average")


class PretrainSettings(StageSettings):
    """Self-supervised training on the corpora's train texts."""

    start: Path | None = Field(
        None, alias="from", exclude=True, description="a checkpoint's folder to start from; its tokenizer is kept"
    )
    objective: Literal["causal", "masked"] = "causal"
    mask: MaskSettings = MaskSettings()
    batch_tokens: int = Field(8192, ge=16, description="tokens of a global batch")
    document_masks: bool = later(False, description="documents packed into one block do not see one another")


class AdapterSettings(Settings):
    """A few trained numbers beside frozen weights."""

    method: Literal["lora", "dora", "ia3", "prompt"] = "lora"
    rank: int = Field(8, ge=1, le=1024, description="of LoRA and DoRA")
    alpha: float = Field(16.0, gt=0, description="LoRA's product is scaled by alpha over rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    virtual_tokens: int = Field(16, ge=1, le=1024, description="length of a tuned prompt")


class InstructSettings(StageSettings):
    """Training on the release's rows, with the loss on completions."""

    batch_rows: int = Field(64, ge=1, description="rows of a global batch")
    loss_on: Literal["completion", "prompt_and_completion"] = "completion"
    average: Literal["token", "example"] = Field("token", description="what weighs the same: each token or each row")
    packs: list[str] | None = Field(None, min_length=1, description="rows of these packs only")
    corpora: list[str] | None = later(None, min_length=1, description="rows of these corpora only")
    templates: list[str] | None = Field(None, min_length=1, description="rows of these templates only")
    shots: list[int] | None = Field(None, min_length=1, description="rows with so many exemplars only")
    chat: bool = later(False, description="rows as conversations, through the tokenizer's chat template")
    adapter: AdapterSettings | None = Field(None, description="train an adapter, not the model's own weights")
    shots_per_class: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        "all", description="texts of each class, by keyed draw: 16 are among 64"
    )


class FinetuneSettings(InstructSettings):
    """Training on one task: as instruction tuning, on one pack's rows, or a head on its texts and labels."""

    head: Literal["lm", "sequence", "token"] = later(
        "lm", description="lm: the model answers in words; sequence, token: a new head labels texts, or tokens"
    )
    hide: float = later(
        0.0, ge=0, lt=1, description="a head: share of a train text's tokens hidden, others each time it is read"
    )
    epochs: float = Field(3.0, gt=0, le=10_000)

    @model_validator(mode="after")
    def _hides(self) -> Self:
        if self.hide and self.head == "lm":
            raise ValueError("hide is for a head; a model that answers in words has all of them")
        return self


class ContinualSettings(Settings):
    """How earlier tasks are kept in mind when training goes on with new ones."""

    method: Method = "replay"
    share: float = Field(0.25, gt=0, lt=1, description="replay: rows of earlier tasks in each batch")
    ewc_weight: float = Field(10_000.0, gt=0, description="ewc: of the second term of the loss; gradients are small")
    distill_weight: float = Field(1.0, gt=0, description="distill: of the second term of the loss")
    temperature: float = Field(2.0, gt=0, description="distill: both models' answers are softened by it")
    fisher_rows: int = Field(200, ge=1, description="ewc: rows of a task that tell which weights matter")
    score_rows: int = Field(200, ge=1, description="validation rows of each task that are scored")


class TrainSettings(Settings):
    """The recipe's `train` section."""

    seed: int = Field(42, ge=-(2**63), lt=2**63)
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    pretrain: PretrainSettings = PretrainSettings()
    instruct: InstructSettings = InstructSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    continual: ContinualSettings = ContinualSettings()
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 autocast where it is fast, or not")
    compile: Literal["auto"] | bool = Field("auto", description="torch.compile the blocks; auto: on a GPU")
    activation_checkpointing: bool = Field(False, description="compute activations again rather than keep them")
    parallel: Parallel = Field("auto", description="how torchrun's processes share a model; auto: ddp")
    log_to: list[Tracker] = Field([], description="also log there; runs stay on this machine")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, stage in (("pretrain", self.pretrain), ("instruct", self.instruct), ("finetune", self.finetune)):
            if stage.micro_tokens < self.model.context:
                raise ValueError(f"{name}.micro_tokens {stage.micro_tokens} cannot hold a row of {self.model.context}")
        of_encoder = self.pretrain.objective == "masked"
        if not self.pretrain.start and of_encoder != (self.model.family == "encoder"):
            raise ValueError("a decoder is pretrained with objective causal, an encoder with masked")
        return self
