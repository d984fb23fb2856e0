"""How near a captured graph comes to PyTorch + PEFT in fp32 on the dequantized weights, and what it takes to see it.

Graphs are captured with `accuracy_level: 1` (fp32 activations) and an fp32 embedding and head, so that both sides
compute the same function from the same int4 codes; what is left is the order of fp32 additions. With some hundred
additions of terms like the result, a chain of tiny layers differs by about 1e-6 of the largest logit. TOLERANCE allows
some ten times that; a wrong or missing branch, scale or head changes logits by more than 1e-2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from press.core import files
from press.model import adapter_inputs, checkpoints, graphs, olive_run
from press.params import schema

TOLERANCE = 2e-5
TARGET = schema.Target(
    device="cpu", provider="CPUExecutionProvider", precision="float", block_size=32, accuracy_level=1, adapters="lora"
)


def captured_to(folder: Path, quantized: Path, precision: str = "float", adapters: str = "lora") -> Path:
    """Capture a quantized checkpoint below a folder; the working folder must have the project's passes."""
    target = TARGET.model_copy(update={"precision": precision, "adapters": adapters})
    with files.building(folder / precision) as building:
        files.publish(graphs.build(olive_run.hf_model(quantized), target, building), folder / precision)
    return folder / precision


def distance(logits: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of two logits, as a share of the largest logit."""
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def random_adapter(quantized: Path, folder: Path, rank: int, modules: list[str], **options) -> Path:
    """An adapter whose A and B are both random: a fresh one would have B = 0 and change nothing."""
    torch.manual_seed(rank)
    model = checkpoints.dequantize(checkpoints.load(quantized))
    options |= checkpoints.kept_out(model)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules, task_type="CAUSAL_LM", **options)
    peft = get_peft_model(model, config)
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        if "magnitude" in name:
            parameter.data *= torch.empty_like(parameter).uniform_(0.7, 1.3)
    peft.save_pretrained(folder, save_embedding_layers=False)
    return folder


def converted(adapter: Path, layout: Path, target: Path, base: Path | None = None) -> Path:
    """Convert an adapter to a file, as the pass does; an adapter by DoRA depends on its base."""
    adapter_inputs.convert(adapter, layout, target, base)
    return target


def pytorch_logits(
    quantized: Path, adapter: Path | None, ids: list[int], table: np.ndarray | None = None
) -> np.ndarray:
    """Return the logits, fp32 of shape (tokens, vocabulary), with `table` for a tied embedding and head if given."""
    model = checkpoints.dequantize(checkpoints.load(quantized))
    if table is not None:
        model.get_input_embeddings().weight.data = torch.from_numpy(table)
        model.get_output_embeddings().weight.data = torch.from_numpy(table)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.inference_mode(), token_by_token():
        return model(input_ids=torch.tensor([ids])).logits[0].float().numpy()


@contextmanager
def token_by_token() -> Iterator[None]:
    """Let Qwen3.5's linear attention be computed one token after the other, as the graph does.

    transformers takes 64 tokens at a time, in fp32 whatever the model is in, and that form is the less exact one. With
    a trained adapter, its logits were 3e-5 off those of either form with all of it in fp64 (which differ by 3e-14),
    those of the form by tokens in fp32 3e-6, and the graph's 3e-6, too.
    """
    # Here, since it takes seconds.
    from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen3_5

    def by_token(*tensors: torch.Tensor, chunk_size: int = 0, **options) -> tuple[torch.Tensor, torch.Tensor | None]:
        return qwen3_5.torch_recurrent_gated_delta_rule(*tensors, **options)

    with mock.patch.object(qwen3_5, "torch_chunk_gated_delta_rule", by_token):
        yield


def head(path: Path, precision: str) -> np.ndarray:
    """Dequantize the head: symmetric around the middle code, one scale a block; int4 two a byte, low one first."""
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    if precision == "int8":
        codes, scales = tensors["lm_head.weight_Q8"].astype(np.float32) - 128, tensors["lm_head.weight_scales"]
    else:
        packed, scales = tensors["lm_head.MatMul.weight_Q4"], tensors["lm_head.MatMul.weight_scales"]
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1).astype(np.float32) - 8
    return (codes * scales.reshape(*codes.shape[:2], 1)).reshape(codes.shape[0], -1)
