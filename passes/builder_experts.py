"""Mixtures of experts by onnxruntime-genai's model builder, from quantized experts that are apart from each other."""

from typing import Any

from onnxruntime_genai.models.builders.base import Model

from passes.builder_weights import stacked


class Mixture(Model):
    """Experts that are chosen by the largest of the router's numbers, and weighted by the softmax of these.

    The builder quantizes the router, and leaves out the zero points of quantized experts.
    """

    def make_moe_preprocessing(self, layer_id: int, moe: Any, root_input: str) -> None:
        router = moe.gate if hasattr(moe, "gate") else moe.router
        router.exclude_from_quantization = True
        moe.experts = stacked(moe.experts)
        self.make_interleaved_swiglu_moe_preprocessing(layer_id, moe)

    def make_moe_op(self, name: str, **inputs: str) -> None:
        if self.moe_attrs["zero_point_names"]:
            for number in (1, 2):
                inputs[f"zero_points{number}"] = inputs[f"weight{number}"].replace(".qweight", ".zero_points")
        super().make_moe_op(name, **inputs)
