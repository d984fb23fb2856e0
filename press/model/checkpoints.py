"""Read Hugging Face checkpoints without the silent failures: every weight loaded, none made up."""

import json
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

from press.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from olive.common.quant.nn import QuantLinear
    from olive.model import HfModelHandler
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# What transformers looks for: all weights in one file, or a table of which file has which.
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Architectures whose layers may have experts (press/model/experts.py), and the key of config.json for their number.
MIXTURES = {"granitemoehybrid": "num_local_experts", "lfm2_moe": "num_experts", "qwen3_5_moe_text": "num_experts"}
# The modules of a mixture's experts, of which one operator of the graph makes one product, the router, and the gate of
# the expert that all tokens share.
EXPERTS = re.compile(
    r".*\.layers\.\d+\.(feed_forward|mlp|block_sparse_moe)\.(experts\..+|gate|router|shared_expert_gate)"
)


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse a model, known by the names of its files, without its configuration, tokenizer or safe weights.

    :param what: the model, for the sentence
    """
    names = list(names)
    if "config.json" not in names:
        raise UserError(f"{what} has no config.json: it is not a Hugging Face checkpoint")
    check_format(names, what)
    if not any(PurePath(name).match("tokenizer*") for name in names):
        raise UserError(f"{what} has no tokenizer: tokenizer.json or tokenizer.model is needed")


def check_format(names: Iterable[str], what: object) -> None:
    """Refuse files none of which has weights in safetensors format."""
    paths = [PurePath(name) for name in names]
    if not any(path.match("*.safetensors") for path in paths):
        pickled = any(path.match(pattern) for path in paths for pattern in PICKLES)
        reason = "only pickled weights, which can run code when they are loaded" if pickled else "no weights"
        raise UserError(f"{what} has {reason}; a checkpoint in safetensors format is needed")


def weight_files(folder: Path, names: Collection[str], what: object) -> set[str]:
    """Return the names of those files that transformers reads a checkpoint's weights from.

    :param folder: has the index, if there is one
    :param names: of all the checkpoint's files
    :param what: the checkpoint, for sentences
    :raises UserError: if one of them is missing, or the index is damaged
    """
    if SINGLE in names:
        return {SINGLE}
    if INDEX not in names:
        return {name for name in names if name.endswith(".safetensors")}
    try:
        needed = set(read_object(folder / INDEX, what)["weight_map"].values())
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{what} has a damaged or half downloaded {INDEX}: fetch it again") from error
    missing = needed - set(names)
    if missing:
        raise UserError(
            f"{what} lacks {len(missing)} of the {len(needed)} files that its {INDEX} names, such as {min(missing)}"
        )
    return needed


def read_object(path: Path, what: object = "the base model") -> dict:
    """Return the object in a JSON file that came with a model.

    :param what: the model, for the sentence
    :raises UserError: if the file is anything else
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        # No half of a surrogate pair, which no tokenizer and no file can hold.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        reason = "its values are nested too deeply"
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text, byte {error.start + 1}"
    except UnicodeEncodeError:
        reason = "it has half of a surrogate pair, which is no character"
    except ValueError as error:
        reason = "it begins with a byte order mark" if "BOM" in str(error) else str(error)
    else:
        if isinstance(value, dict):
            return value
        reason = f"a JSON {type(value).__name__}, not an object"
    raise UserError(f"{what} has a damaged or half downloaded {path.name} ({reason}): fetch it again")


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Say in a sentence which file of a model a library cannot read, and why.

    :param what: the file, for the sentence
    """
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:
        # The system's errors, a full disk's among them, have a number; the libraries' have none.
        if getattr(error, "errno", None) is not None:
            raise
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
        raise UserError(f"the base model's {what} cannot be read ({reason})") from error


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Map the name of every tensor in a checkpoint's safetensors files to its shape, reading headers only."""
    from safetensors import SafetensorError, safe_open

    shapes = {}
    for file in _weight_paths(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                shapes.update({name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()})  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{file} is damaged or half downloaded ({error}): fetch it again") from error
    return shapes


def tensors(folder: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Yield the name and the values of each tensor in a checkpoint's safetensors files, one in memory at a time."""
    from safetensors import safe_open

    for file in _weight_paths(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)


def _weight_paths(folder: Path) -> list[Path]:
    names = [path.name for path in folder.iterdir() if path.is_file()]
    check_format(names, folder)
    return sorted(folder / name for name in weight_files(folder, names, folder))


def module_rows(folder: Path) -> dict[str, int]:
    """Map the name of every linear (or embedding) module in a checkpoint to its number of output rows."""
    rows = {}
    for name, shape in weight_shapes(folder).items():
        module, _, tensor = name.rpartition(".")
        if tensor in ("weight", "qweight") and len(shape) == 2:
            rows[module] = shape[0]
    return rows


def adaptable_modules(folder: Path) -> set[str]:
    """Return what the linear modules of a checkpoint's layers are called that an adapter can change."""
    names = {name for name in module_rows(folder) if ".layers." in name and not EXPERTS.fullmatch(name)}
    return {name.rpartition(".")[2] for name in names}


def kept_out(model: "PreTrainedModel") -> dict[str, str]:
    """Return PEFT's option that keeps an adapter out of the experts, if the model has any.

    Their linears have the names of those in layers without experts.
    """
    has_experts = any(EXPERTS.fullmatch(name) for name, _ in model.named_modules())
    return {"exclude_modules": EXPERTS.pattern} if has_experts else {}


def tokenizer(folder: Path, trust: bool = False) -> "PreTrainedTokenizerBase":
    """Load a checkpoint's tokenizer.

    :param trust: whether the checkpoint's own Python code may run: base.trust_remote_code
    """
    from transformers import AutoTokenizer

    return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(folder, trust_remote_code=trust))


def trusted(model: "HfModelHandler") -> bool:
    """Whether a model's own Python code may run, as Olive's config of it says."""
    return bool(model.get_load_kwargs().get("trust_remote_code"))


def eos_ids(folder: Path) -> list[int]:
    """Return the token ids that end a turn: those of the generation config if it has any, else the model config's."""
    from transformers import AutoConfig, GenerationConfig

    ids = None
    if (folder / "generation_config.json").exists():
        ids = GenerationConfig.from_pretrained(folder).eos_token_id
    if ids is None:
        ids = AutoConfig.from_pretrained(folder, trust_remote_code=False).eos_token_id
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def has_experts(config: dict) -> bool:
    """Whether config.json describes a model with experts."""
    name = config.get("model_type")
    return isinstance(name, str) and name in MIXTURES and config.get(MIXTURES[name]) != 0


def set_experts_apart(config: dict) -> None:
    """Let transformers build a model's experts as linear layers of their own, if config.json describes any."""
    if has_experts(config):
        from press.model import experts

        experts.set_apart(config["model_type"], MIXTURES[config["model_type"]])


def load(folder: Path, where: str = "cpu", trust: bool = False) -> "PreTrainedModel":
    """Load a plain or an Olive-quantized checkpoint in its own dtype, ready for inference.

    Olive's quantizer is registered first, since without it transformers replaces every quantized linear by
    a randomly initialised one and only warns.

    :param where: cpu or cuda
    :param trust: whether the checkpoint's own Python code may run: base.trust_remote_code
    :raises UserError: if a weight of the model is missing in the checkpoint
    """
    # dill, which PyTorch imports with Olive, keeps the functions for good that are running then, with what they hold at
    # their end: this model, and those of whoever calls. In a thread of its own, none of them is running.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(import_module, "olive.model").result()
    from olive.model import HfModelHandler

    set_experts_apart(read_object(folder / "config.json"))
    model = HfModelHandler(str(folder), load_kwargs={"trust_remote_code": trust}).load_model(cache_model=False).eval()
    lacking = missing(model, weight_shapes(folder))
    if lacking:
        raise UserError(
            f"{folder} lacks {len(lacking)} of the model's weights, such as {min(lacking)}; "
            "they would be random numbers: fetch or build the checkpoint again"
        )
    return model.to(where)


def missing(model: "PreTrainedModel", present: Iterable[str]) -> set[str]:
    """Return the names of weights that a checkpoint lacks, for which transformers would make up random numbers.

    :param present: the names of the checkpoint's weights
    """
    return set(model.state_dict()) - set(present) - set(tied(model))


def tied(model: "PreTrainedModel") -> dict[str, str]:
    """Map the name of each weight that stands for another one of the model to that one's."""
    return getattr(model, "all_tied_weights_keys", None) or {}


def dequantize(model: "PreTrainedModel", dtype: "torch.dtype | None" = None) -> "PreTrainedModel":
    """Replace every QuantLinear by an nn.Linear with the dequantized weight: the same function, in place.

    PEFT and the Trainer know nothing of Olive's quantized modules, and a training step is faster on plain
    weights than when it unpacks them anew.

    :param dtype: of all weights; None keeps each one's own
    """
    from olive.common.quant.nn import QuantLinear

    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLinear):
            model.set_submodule(name, dequantized(module, dtype))
    # Not model.to(dtype), which would also round the frequencies of the rotary embedding.
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    forget_quantizer(model)
    return model


def dequantized(linear: "QuantLinear", dtype: "torch.dtype | None" = None) -> "torch.nn.Linear":
    """Return a plain linear that computes what a quantized one does."""
    import torch

    weight = linear.unpack_and_dequantize(linear.qweight, linear.scales, linear.qzeros).to(dtype)
    plain = torch.nn.Linear(linear.cols, linear.rows, bias=linear.bias is not None, device="meta")
    plain.weight = torch.nn.Parameter(weight, requires_grad=False)
    if linear.bias is not None:
        plain.bias = torch.nn.Parameter(linear.bias, requires_grad=False)
    return plain


def forget_quantizer(model: "PreTrainedModel") -> None:
    """Let a model whose weights are plain now say so: save_pretrained and PEFT go by what it says."""
    # Modules are typed as if they had nothing but tensors and modules.
    attributes: Any = model
    attributes.is_quantized = False
    attributes.hf_quantizer = None
    attributes.quantization_method = None
    if hasattr(attributes.config, "quantization_config"):
        del attributes.config.quantization_config
