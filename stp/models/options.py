"""The group `model` of the command line: which weights are loaded, and how. It needs none of the libraries that load them."""

from dataclasses import dataclass, field

from stp.errors import require, require_choice


@dataclass
class Lora:
    """Low-rank adapters (peft). Rank 0 trains every weight instead."""

    rank: int = field(default=0, metadata={"help": "LoRA rank; 0 is full fine-tuning"})
    alpha: int = field(default=64, metadata={"help": "LoRA alpha: updates are scaled by alpha / rank"})
    dropout: float = field(default=0.0, metadata={"help": "LoRA dropout, on in gradient forwards only"})
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "up_proj"],
        metadata={"help": "linear layers that get an adapter"},
    )

    def __post_init__(self) -> None:
        require(self.rank >= 0, "model.lora.rank", self.rank, "the rank cannot be negative; 0 is full fine-tuning")
        require(self.alpha > 0, "model.lora.alpha", self.alpha, "alpha must be positive")
        require(0 <= self.dropout < 1, "model.lora.dropout", self.dropout, "a dropout probability lies in [0, 1)")
        require(
            self.rank == 0 or bool(self.target_modules),
            "model.lora.target_modules",
            self.target_modules,
            "name at least one module, say q_proj",
        )


@dataclass
class Model:
    """Which weights are loaded, in which precision, and which of them are trained."""

    name: str = field(default="tiny", metadata={"help": "name in file names and tables"})
    path: str | None = field(
        default=None, metadata={"help": "checkpoint folder or hub id; null takes the tiny base that ships"}
    )
    base: str | None = field(
        default=None, metadata={"help": "the task whose tiny base is taken where path is null; null is the task at hand"}
    )
    dtype: str = field(default="float32", metadata={"help": "float32 | bfloat16"})
    quantize: str = field(
        default="none", metadata={"help": "none | nf4: 4-bit base weights under LoRA (bitsandbytes, CUDA; the gpu extra)"}
    )
    attention: str = field(default="sdpa", metadata={"help": "sdpa | eager | flash_attention_2"})
    instructions: bool = field(default=False, metadata={"help": "put the task's instruction before each question"})
    prompt_tokens: int = field(default=200, metadata={"help": "longer prompts are cut on the left to this"})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "recompute activations in the backward pass"})
    compile: bool = field(
        default=False, metadata={"help": "torch.compile the layers: faster after a minute; results differ by rounding"}
    )
    logit_chunk: int = field(default=8192, metadata={"help": "positions whose logits exist at once"})
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self) -> None:
        require_choice("model.dtype", self.dtype, ("float32", "bfloat16"))
        require_choice("model.quantize", self.quantize, ("none", "nf4"))
        require(
            self.quantize == "none" or self.dtype == "bfloat16",
            "model.quantize",
            self.quantize,
            "4-bit layers compute in bfloat16; add model.dtype=bfloat16",
        )
        require_choice("model.attention", self.attention, ("sdpa", "eager", "flash_attention_2"))
        require(
            self.attention != "flash_attention_2" or self.dtype == "bfloat16",
            "model.attention",
            self.attention,
            "FlashAttention computes in bfloat16; add model.dtype=bfloat16",
        )
        require(self.prompt_tokens >= 1, "model.prompt_tokens", self.prompt_tokens, "a prompt needs at least 1 token")
        require(self.logit_chunk >= 1, "model.logit_chunk", self.logit_chunk, "at least 1 position is computed at a time")
