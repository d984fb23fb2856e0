"""The execution providers of ONNX Runtime that a target may name, and what each can be given.

docs/targets.md has them as a table, with what tests found; `python -m bench.target_table` writes it.
"""

from dataclasses import dataclass
from typing import Literal

ProviderName = Literal[
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "DmlExecutionProvider",
    "WebGpuExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "QNNExecutionProvider",
    "OpenVINOExecutionProvider",
    "VitisAIExecutionProvider",
]
INPUTS, SCALED_INPUTS, MERGED = "lora", "dora", "merged"


@dataclass(frozen=True)
class Provider:
    """What a graph for a provider may be like, and what runs it.

    :param device: cpu, gpu or npu
    :param builder: the model builder's name of the graph that is made for it
    :param precisions: of embedding and lm_head, for which it has kernels
    :param adapters: how it can be given adapters: as inputs of the graph, or merged into the weights
    :param needs: the runtime, and what else the machine must have
    """

    device: str
    builder: str
    precisions: tuple[str, ...]
    adapters: tuple[str, ...]
    needs: str


ALL_TABLES = ("int8", "int4", "float")
ANY_FORM = (INPUTS, SCALED_INPUTS, MERGED)

PROVIDERS: dict[ProviderName, Provider] = {
    "CPUExecutionProvider": Provider("cpu", "cpu", ALL_TABLES, ANY_FORM, "onnxruntime-genai"),
    "CUDAExecutionProvider": Provider("gpu", "cuda", ALL_TABLES, ANY_FORM, "onnxruntime-genai-cuda, an NVIDIA GPU"),
    # No kernel of its own that looks an embedding up in int8 is known.
    "DmlExecutionProvider": Provider(
        "gpu", "dml", ("int4", "float"), ANY_FORM, "onnxruntime-genai-directml, Windows, a DirectX 12 GPU"
    ),
    "WebGpuExecutionProvider": Provider(
        "gpu", "webgpu", ALL_TABLES, ANY_FORM, "onnxruntime-genai, onnxruntime-ep-webgpu, a GPU with WebGPU"
    ),
    # The builder writes its weights as DequantizeLinear, and then leaves out the int4 table that it refers to.
    "NvTensorRTRTXExecutionProvider": Provider(
        "gpu",
        "NvTensorRtRtx",
        ("float",),
        ANY_FORM,
        "onnxruntime-genai, onnxruntime-ep-nv-tensorrt-rtx, an NVIDIA RTX GPU",
    ),
    # Graphs for NPUs have static shapes; Olive's pass StaticLLM knows no inputs besides the cache.
    "QNNExecutionProvider": Provider(
        "npu", "cpu", ("int8", "float"), (MERGED,), "onnxruntime-genai, onnxruntime-qnn, a Snapdragon with an NPU"
    ),
    "OpenVINOExecutionProvider": Provider(
        "npu", "cpu", ("int8", "float"), (MERGED,), "onnxruntime-genai, onnxruntime-ep-openvino, an Intel Core Ultra"
    ),
    "VitisAIExecutionProvider": Provider(
        "npu", "cpu", ("int8", "float"), (MERGED,), "AMD's Ryzen AI software with its onnxruntime, a Ryzen AI"
    ),
}
