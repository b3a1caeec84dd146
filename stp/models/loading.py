"""Loads checkpoint folders as bidirectional models, file by file, with one copy of the weights in host memory."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from stp.errors import UserError, fail, require
from stp.models import nf4

Stock = TypeVar("Stock", bound=PreTrainedModel)

MAX_LAYERS = 1_000


def load(
    stock: type[Stock],
    config: PretrainedConfig,
    path: Path,
    dtype: torch.dtype,
    quantize: str,
    stock_name: Callable[[str], str] = str,
) -> Stock:
    """Builds a stock model without a causal mask on the meta device and fills it with the weights of a checkpoint folder.

    Weights that are already in `dtype` stay mapped to the file and are copied only when written to. stock_name: returns the
    stock model's name for a weight of the file. quantize=nf4 puts in 4-bit layers, which quantise when the model moves to its
    GPU. Raises UserError if weights are missing, unexpected or misshapen.
    """
    layers = config.num_hidden_layers
    whole = isinstance(layers, int) and 1 <= layers <= MAX_LAYERS  # a layer takes time to build even if no file has it
    require(whole, "model.path", path, f"its config.json has num_hidden_layers={layers!r}; a model has 1 to {MAX_LAYERS}")
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    shared = kv_heads >= 1 and heads % kv_heads == 0
    require(shared, "model.path", path, f"its {heads} heads cannot share {kv_heads} key-value heads evenly")
    try:
        with torch.device("meta"):
            model = bidirectional(read_as(stock._from_config, path, config, dtype=dtype))
    except ImportError as error:
        fail(
            "model.attention",
            config._attn_implementation,
            f"{str(error).splitlines()[0]}; install it or use model.attention=sdpa",
        )
    if quantize == "nf4":
        nf4.replace_linears(model)
    own = dict(model.named_parameters())
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    found, unexpected = set(tied), []
    for weights in files(path):
        for name, tensor in weights.items():
            name = stock_name(name)
            found.add(name)
            if name in tied:
                continue
            if name not in own or own[name].shape != tensor.shape:
                unexpected.append(name)
                continue
            owner, _, leaf = name.rpartition(".")
            require_finite("model.path", path, name, tensor)
            setattr(model.get_submodule(owner), leaf, _filled(own[name], tensor.to(dtype)))
    missing = [name for name in own if name not in found]
    if missing or unexpected:
        fail("model.path", path, f"weights do not fit the config: missing {missing[:3]}, unexpected {unexpected[:3]}")
    model.tie_weights()
    trunk: Any = model.base_model
    trunk.rotary_emb = read_as(type(trunk.rotary_emb), path, config=config)  # rotary frequencies are computed, not stored
    return model.eval()


def _filled(meta: nn.Parameter, tensor: Tensor) -> nn.Parameter:
    """Returns the parameter that replaces a meta one. A 4-bit parameter keeps its class and settings."""
    if type(meta) is nn.Parameter:
        return nn.Parameter(tensor)
    return type(meta)(tensor, requires_grad=False, **meta.__dict__)


def bidirectional(model: Stock) -> Stock:
    """Switches the causal mask off in the config, and in each attention module because FlashAttention reads it there."""
    model.config.is_causal = False
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False  # type: ignore[assignment]
    return model


def read_config(path: Path) -> dict[str, Any]:
    """Reads config.json of a checkpoint folder. Raises UserError if there is none."""
    try:
        raw = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        fail("model.path", path, "no config.json there; give a checkpoint folder")
    except (ValueError, RecursionError, OSError) as error:
        fail("model.path", path, f"its config.json cannot be read ({error})")
    require(isinstance(raw, dict), "model.path", path, "its config.json is not a table of settings")
    return raw


def stored_dtype(raw: dict[str, Any]) -> str | None:
    """Returns the precision that a config.json states for its weights: `float32`, `bfloat16`, or None if it states neither.

    The key is `dtype` in transformers 5, `torch_dtype` in version 4, and `precision` in LLaDA's own config.
    """
    for key in ("dtype", "torch_dtype", "precision"):
        match str(raw.get(key)).removeprefix("torch.").removeprefix("amp_"):
            case "float32" | "fp32":
                return "float32"
            case "bfloat16" | "bf16":
                return "bfloat16"
    return None


def read_as(made: Callable[..., Any], path: Path, *args: Any, **kwargs: Any) -> Any:
    """Calls `made` with values of config.json. Raises a UserError of one line if they describe no model."""
    try:
        return made(*args, **kwargs)
    except (UserError, ImportError):
        raise
    except Exception as error:  # transformers raises errors of several kinds for bad values
        fail("model.path", path, f"its config.json describes no model ({' '.join(str(error).split())})")


def files(path: Path) -> Iterator[dict[str, Tensor]]:
    """Yields the tensors of each file: of model.safetensors, or of the files that its index names. Pickles are never loaded."""
    index = path / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            if any(Path(name).name != name for name in names):
                raise ValueError("a name in it is not that of a file beside it")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OSError) as error:
            fail("model.path", path, f"model.safetensors.index.json is not an index of weights ({error!r})")
    for name in names:
        try:
            yield load_file(path / name)
        except FileNotFoundError:
            fail("model.path", path, f"{name} is not there; only safetensors are loaded, convert pickled weights first")
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            require_fetched("model.path", path / name)
            raise UserError(f"model.path={path}: {name} is not a readable safetensors file ({error})") from None


def require_fetched(option: str, file: Path) -> None:
    """Refuses a file whose content Git LFS has not fetched yet: a pointer, a few lines of text, stands in its place."""
    with file.open("rb") as content:
        pointer = content.read(24) == b"version https://git-lfs."
    require(not pointer, option, file, "it is a Git LFS pointer, the content is not there; fetch it with git lfs pull")


def require_finite(option: str, path: Path, name: str, tensor: Tensor) -> None:
    """Refuses a weight that holds NaN or an infinity. A finite sum, which is fast to compute, proves that it holds none."""
    if tensor.is_floating_point() and not bool(tensor.sum(dtype=torch.float32).isfinite()):
        broken = int((~tensor.isfinite()).sum())  # but a sum may also overflow: count
        require(broken == 0, option, path, f"{broken} of {tensor.numel()} values of {name} are not finite; give other weights")
