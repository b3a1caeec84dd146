"""The policy: a bidirectional language model behind the denoiser protocol, with LoRA and its reference."""

import copy
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)
from transformers.utils import is_flash_attn_2_available

from stp.diffusion import draw_tokens, token_log_probs
from stp.errors import UserError, fail, require
from stp.models import nf4
from stp.models.adapters import in_precision
from stp.models.architectures import Stock, architecture
from stp.models.loading import read_config, require_fetched
from stp.models.options import Lora, Model
from stp.models.tiny import is_tiny, shipped
from stp.models.within import KeysValues, Within


class Policy(nn.Module):
    """A denoiser over a Llama, Qwen2 or Qwen3 without a causal mask: its trunk (all layers except the head) and its head.

    Gradients go through `forward`, where DeepSpeed hooks in.
    """

    def __init__(
        self, model: Stock | PeftModel, mask_id: int, eos_id: int, logit_chunk: int = 8192, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self.mask_id, self.eos_id, self.logit_chunk, self.dropout = mask_id, eos_id, logit_chunk, dropout
        self.shifted = isinstance(self.llama, Qwen2ForCausalLM)  # Dream: position i is predicted at i - 1

    @property
    def llama(self) -> Stock:
        """The Llama (or Qwen2, or Qwen3) itself, with any adapter layers inside."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forward(
        self,
        ids_BS: Tensor,
        attend_BS: Tensor | None,
        index_M: Tensor,
        target_M: Tensor | None = None,
        kept: KeysValues | None = None,
    ) -> Tensor:
        """Runs one trunk forward, and the head at the chosen positions only. See `stp.diffusion.Denoiser`.

        kept: a block's keys and values, if later forwards of the block reuse those of its first one.
        """
        hidden_MD, head = self._hidden(ids_BS, attend_BS, index_M, kept), self.llama.lm_head
        if target_M is None:
            return head(hidden_MD)
        target_M = target_M.to(self.device, non_blocking=True)
        if hidden_MD.requires_grad and not any(p.requires_grad for p in head.parameters()):
            return _FrozenHead.apply(hidden_MD, target_M, head, self.logit_chunk)
        if len(target_M) <= self.logit_chunk:
            return _head_log_probs(head, hidden_MD, target_M)
        chunks = zip(hidden_MD.split(self.logit_chunk), target_M.split(self.logit_chunk), strict=True)
        return torch.cat([checkpoint(_head_log_probs, head, *chunk, use_reentrant=False) for chunk in chunks])

    def draw(
        self,
        ids_BS: Tensor,
        attend_BS: Tensor | None,
        index_M: Tensor,
        temperature: float = 0.0,
        uniform_M: Tensor | None = None,
        kept: KeysValues | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws one token at each of these positions, with its confidence (`stp.diffusion.draw`), chunk by chunk."""
        hidden_MD = self._hidden(ids_BS, attend_BS, index_M, kept)
        parts = hidden_MD.split(self.logit_chunk)
        uniforms = [None] * len(parts) if uniform_M is None else uniform_M.split(self.logit_chunk)
        drawn = [
            draw_tokens(self.llama.lm_head(hidden), temperature, uniform, self.mask_id, overwrite=True)
            for hidden, uniform in zip(parts, uniforms, strict=True)
        ]
        return torch.cat([token_M for token_M, _ in drawn]), torch.cat([confidence_M for _, confidence_M in drawn])

    def within(self, begin: int, end: int) -> Within:
        """Returns this policy for one block: see `stp.diffusion.within`. A shifted model needs the position before it too."""
        return Within(self, max(begin - 1, 0) if self.shifted else begin, end)

    def _hidden(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, kept: KeysValues | None = None) -> Tensor:
        """Runs one trunk forward. Returns the hidden states at the chosen positions.

        kept: a block's keys and values. The block's first forward computes every position, later ones only the block's.
        """
        device = self.device
        ids_BS, index_M = ids_BS.to(device, non_blocking=True), index_M.to(device, non_blocking=True)
        positions_BS = None
        if attend_BS is not None:
            attend_BS = attend_BS.to(device, non_blocking=True)
            positions_BS = (attend_BS.long().cumsum(dim=1) - 1).clamp(min=0)
        llama, width = self.llama, ids_BS.shape[1]
        if self.shifted:
            index_M = one_to_the_left(index_M, attend_BS, width)
        if kept is not None and positions_BS is None:
            positions_BS = torch.arange(width, device=device)[None]
        if kept is not None and kept.layers:
            block = slice(kept.begin, kept.end)
            ids_BS, positions_BS = ids_BS[:, block], positions_BS[:, block]  # type: ignore[index]
            index_M = index_M // width * (kept.end - kept.begin) + index_M % width - kept.begin
        hidden_BSD = llama.model(
            input_ids=ids_BS,
            attention_mask=self._mask(attend_BS),
            position_ids=positions_BS,
            past_key_values=kept,
            use_cache=False,
        ).last_hidden_state
        return hidden_BSD.flatten(0, 1)[index_M]

    def _mask(self, attend_BS: Tensor | None) -> Tensor | None:
        """Returns the padding mask as the attention takes it: [B, 1, 1, S], or attend_BS itself for FlashAttention.

        Without it transformers would look in every forward whether anything is padded, and a GPU would wait for that.
        """
        attention = self.llama.config._attn_implementation
        if attend_BS is None or attention not in ("sdpa", "eager"):
            return attend_BS
        attend_B11S = attend_BS[:, None, None]
        if attention == "sdpa":
            return attend_B11S
        dtype = self.llama.dtype
        return torch.zeros_like(attend_B11S, dtype=dtype).masked_fill_(~attend_B11S, torch.finfo(dtype).min)

    def frozen_copy(self) -> "Policy":
        """Returns a copy that is never trained: the reference policy under full fine-tuning."""
        frozen = copy.deepcopy(self).requires_grad_(False).eval()
        if any(layer._compiled_call_impl is not None for layer in self.llama.model.layers):  # a copy loses them
            compile_layers(frozen)
        return frozen

    def fingerprint(self, adapter: bool = False) -> str:
        """Returns a short hash of the base's names, shapes and a sample of its values. adapter: hash its adapter too."""
        digest = hashlib.sha256()
        named = [(name.replace(".base_layer", ""), p) for name, p in self.llama.named_parameters()]
        names = {name: p for name, p in named if adapter or "lora_" not in name}
        if adapter and isinstance(self.model, PeftModel):
            digest.update(f"alpha {self.model.peft_config[self.model.active_adapter].lora_alpha}".encode())  # type: ignore
        for name, parameter in sorted(names.items()):
            flat = parameter.detach().flatten()
            sample = flat[:: max(1, flat.numel() // 256)].float().cpu()
            digest.update(f"{name}{tuple(parameter.shape)}".encode() + sample.numpy().tobytes())
        return digest.hexdigest()[:16]


def _head_log_probs(head: nn.Module, hidden_MD: Tensor, target_M: Tensor) -> Tensor:
    return token_log_probs(head(hidden_MD), target_M, overwrite=True)


class _FrozenHead(torch.autograd.Function):
    """Log-probabilities of tokens under a head that is not trained, `chunk` positions at a time.

    A token's log-probability depends on the hidden state of its own position alone. So forward takes the gradient there at
    once, and backward only scales it. No logits are kept for the backward pass, and none are computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden_MD: Tensor, target_M: Tensor, head: nn.Module, chunk: int) -> Tensor:
        found, slopes = [], []
        for part, target in zip(hidden_MD.split(chunk), target_M.split(chunk), strict=True):
            with torch.enable_grad():
                hidden = part.detach().requires_grad_()
                logp_C = _head_log_probs(head, hidden, target)
                slopes += torch.autograd.grad(logp_C.sum(), hidden)
            found.append(logp_C.detach())
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope_MD,) = ctx.saved_tensors
        (grad_M,) = gradients
        return (slope_MD * grad_M[:, None]).to(slope_MD.dtype), None, None, None


def one_to_the_left(index_M: Tensor, attend_BS: Tensor | None, width: int) -> Tensor:
    """Returns where a model with shifted logits predicts the tokens at flat positions: one position to the left of each.

    Nothing stands to the left of a row's first real token, so it is predicted at its own position.
    """
    before_M = (index_M - 1).clamp(min=0)
    inside_M = index_M % width > 0
    if attend_BS is not None:
        inside_M &= attend_BS.flatten()[before_M]
    return torch.where(inside_M, before_M, index_M)


class AdapterOff:
    """The reference policy under LoRA, as a denoiser: the base weights alone."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.mask_id, self.eos_id = policy, policy.mask_id, policy.eos_id

    def __call__(self, *args: Tensor | None) -> Tensor:
        with self.policy.model.disable_adapter():  # type: ignore[operator]
            return self.policy(*args)


def require_available(options: Model) -> None:
    """Raises UserError, before any long work, if this machine lacks what the options ask for."""
    if options.quantize == "nf4":
        nf4.require_available()
    if options.attention == "flash_attention_2":
        rule = "FlashAttention needs a CUDA GPU and the flash-attn package, which are not both here; use model.attention=sdpa"
        require(is_flash_attn_2_available(), "model.attention", options.attention, rule)
    if options.compile and not torch.cuda.is_available():
        compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
        rule = "torch.compile needs a C++ compiler here; install g++ or use model.compile=false"
        require(compiler, "model.compile", True, rule)
    if options.dtype == "bfloat16" and torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        rule = f"{torch.cuda.get_device_name()} does not compute in it, cards from Ampere (A100) on do; use model.dtype=float32"
        require(able, "model.dtype", options.dtype, rule)


def checkpoint_folder(options: Model) -> Path:
    """Returns the folder of the weights: the shipped base, a local folder, or a hub snapshot."""
    if options.path is None:
        return shipped(options.base or "countdown")
    path = Path(options.path).expanduser()
    if path.is_dir():
        _require_weights(path)
        return path
    if path.is_absolute() or options.path.startswith(".") or options.path.count("/") != 1:
        fail("model.path", options.path, "no such folder; give a checkpoint folder or a hub id like GSAI-ML/LLaDA-8B-Instruct")
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
        return Path(snapshot_download(options.path, allow_patterns=patterns))
    except Exception as error:  # the hub raises a dozen kinds of errors; all mean that the model is not available
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.path={options.path}: not a local folder, and the hub cannot give it ({reason})") from None


def base_name(options: Model) -> str:
    """Returns how other programs find the base: its hub id, or the whole path of its folder."""
    local = options.path is None or Path(options.path).expanduser().is_dir()
    return str(checkpoint_folder(options).resolve()) if local else str(options.path)


def _require_weights(path: Path) -> None:
    """Refuses a run's folder or an adapter, which hold no config.json of a model, and says what to give instead."""
    if (path / "config.json").exists():
        return
    if (path / "weights" / "config.json").exists():
        fail("model.path", path, f"that is a run folder; give its weights with model.path={path / 'weights'}")
    adapter = (path / "adapter_config.json").exists()
    if adapter or ((path / "config.yaml").exists() and (path / "metrics.jsonl").exists()):
        what = "an adapter" if adapter else "a run folder without weights of a whole model"
        made = f"make whole weights of it with python -m stp.export checkpoint={path} to=merged"
        fail("model.path", path, f"that is {what}; {made}, or name it as checkpoint= to stp.evaluate, stp.trace or stp.export")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer beside the weights. Raises UserError if there is none."""
    try:
        settings = folder / "tokenizer_config.json"
        named = json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class") if settings.exists() else None
        # Dream's class is remote code around Qwen2's vocabulary, merges and special tokens
        if named == "DreamTokenizer":
            return Qwen2Tokenizer.from_pretrained(folder)
        # LLaDA's config.json needs remote code; where the tokenizer's class is named, an empty config keeps it from being read
        known = {"config": PretrainedConfig()} if named else {}
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **known)
    except Exception as error:
        for file in sorted(folder.glob("*.json")):
            require_fetched("model.path", file)
        reason = " ".join(str(error).split())
        raise UserError(f"model.path={folder}: no tokenizer can be loaded there ({reason:.300})") from None


def require_described(option: str, folder: Path, options: Model) -> None:
    """Refuses to run a large model with the tiny model's settings: float32, no instructions, short lengths.

    Raises:
        UserError: it names the option of the group `model` that has the right settings.
    """
    raw = read_config(folder)
    if options.name != "tiny" or is_tiny(raw):
        return
    known = architecture(raw).option
    rule = "its vocabulary is not the tiny model's, which model=tiny describes (float32, no instructions, L = 48)"
    fail(option, folder, f"{rule}; add model={known}, or another one of conf/model, beside {option}=")


def load_model(folder: Path, options: Model) -> Stock:
    """Loads the model of a checkpoint folder. Its config.json decides on the architecture."""
    return architecture(read_config(folder)).load(folder, getattr(torch, options.dtype), options.attention, options.quantize)


def load_policy(options: Model, trainable: bool = True) -> tuple[Policy, PreTrainedTokenizerBase]:
    """Loads the policy and its tokenizer. If LoRA is to be trained, the policy gets fresh adapters."""
    require_available(options)
    folder = checkpoint_folder(options)
    tokenizer = load_tokenizer(folder)
    model: Any = load_model(folder, options)
    mask_id = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else read_config(folder).get("mask_token_id")
    if mask_id is None:
        fail("model.path", folder, "neither its tokenizer nor its config.json names a mask token (mask_token_id)")
    known = model.config.vocab_size
    for name, token in {"mask": mask_id, "end-of-text": tokenizer.eos_token_id}.items():
        within = type(token) is int and 0 <= token < known
        require(within, "model.path", folder, f"its {name} token is {token!r}, the model knows 0 to {known - 1}")
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.lora.rank and trainable:
        model = add_lora(model, options.lora)
        model.peft_config["default"].base_model_name_or_path = base_name(options)
    policy = Policy(model, mask_id, tokenizer.eos_token_id, options.logit_chunk, options.lora.dropout)
    if options.compile:
        compile_layers(policy)
    return policy.requires_grad_(False).eval() if not trainable else policy.eval(), tokenizer


def compile_layers(policy: Policy) -> None:
    """Compiles each layer in place, for any number of rows and positions."""
    torch._dynamo.config.recompile_limit = 64  # each mix of gradients, adapter, padding, 1 row compiles anew
    for layer in policy.llama.model.layers:
        layer.compile(dynamic=True)


def add_lora(model: Stock, lora: Lora) -> PeftModel:
    """Adds fresh adapters to the target modules, drawn from a fixed seed, in the precision of the base.

    PEFT would make them in float32, in which a GPU is slow. The global generator stays as it was.
    """
    modules = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = {name: name.rpartition(".")[2] for name in lora.target_modules}
    unknown = [name for name, module in targets.items() if module not in modules]
    require(not unknown, "model.lora.target_modules", lora.target_modules, f"the model has no {', '.join(unknown)}")
    tied = model.config.tie_word_embeddings and {"lm_head", "embed_tokens"} & set(targets.values())
    rule = "the model's head and embeddings are one matrix, which cannot take an adapter and stay one; leave them out"
    require(not tied, "model.lora.target_modules", lora.target_modules, rule)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return in_precision(get_peft_model(model, config), model.dtype)  # type: ignore[arg-type]
        except ValueError as error:
            fail("model.lora.target_modules", lora.target_modules, str(error).splitlines()[0])
