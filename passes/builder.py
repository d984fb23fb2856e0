"""Olive pass: export a Hugging Face checkpoint with onnxruntime-genai's model builder.

Olive's own ModelBuilder pass calls an entry point that onnxruntime-genai 0.15 and later no longer have.
"""

import json
import logging
from pathlib import Path

import onnx
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler, ONNXModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig

from press.core import files, paths
from press.model import checkpoints, node_names
from press.params.providers import PROVIDERS

MODEL = "model.onnx"
TOKENIZER = "tokenizer_config.json"


class GenAIBuilder(Pass):
    """Turn a plain or Olive-quantized checkpoint into an ONNX model with genai_config.json and tokenizer."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "precision": PassConfigParam(
                type_=str,
                default_value="int4",
                description="Of embedding and lm_head: int4, in one table if they are tied, or float.",
            ),
            "block_size": PassConfigParam(type_=int, default_value=32, description="Weights that share a scale there."),
            "accuracy_level": PassConfigParam(
                type_=int, default_value=4, description="Least accuracy of MatMul activations: 1 fp32 to 4 int8."
            ),
        }

    @staticmethod
    def is_accelerator_agnostic(accelerator_spec: AcceleratorSpec) -> bool:
        return False

    def _run_for_config(
        self, model: HfModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        from onnxruntime_genai.models import builder

        from passes import builder_repairs

        logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
        output = Path(output_model_path)
        checkpoint = model.model_name_or_path
        provider = PROVIDERS[self.accelerator_spec.execution_provider].builder
        cache = str(output / "cache")
        arguments = (checkpoint, checkpoint, str(output), "int4", provider, cache)
        options = [f"block_size={config.block_size}", f"accuracy_level={config.accuracy_level}", f"filename={MODEL}"]
        # A cache as long as the window fails where a prompt is longer or the longest answer shorter than the window.
        options.append("windowed_kv_cache=false")
        # Qwen3.5 has weights that guess further tokens, of which its part for text has the number alone.
        options.append("exclude_mtp=true")
        if checkpoints.trusted(model):
            options.append("hf_remote=true")
        if config.precision == "float":
            options += ["shared_embeddings=false", f"nodes_to_exclude={node_names.HEAD_IN_FLOATS}"]
        parsed = builder.parse_extra_options(*arguments, options)
        builder_repairs.prepare(parsed["hf_details"]["hf_config"])
        with builder_repairs.applied():
            builder.create_model(*arguments, **parsed)
        _forget_repository(output / MODEL)
        _name_tokenizer(output / TOKENIZER)
        _take_penalty(output / paths.RUNTIME_CONFIG, Path(checkpoint) / paths.GENERATION_CONFIG)
        extras = [str(path) for path in sorted(output.iterdir()) if not path.name.startswith(MODEL)]
        return ONNXModelHandler(output, onnx_file_name=MODEL, model_attributes={"additional_files": extras})


def _name_tokenizer(config: Path) -> None:
    """Call a tokenizer by the name of what reads tokenizer.json, where the runtime does not know its own."""
    content = files.read_json(config)
    if content.get("tokenizer_class") == "Qwen3_5Tokenizer":
        config.write_text(json.dumps({**content, "tokenizer_class": "TokenizersBackend"}, indent=2), encoding="utf-8")


def _take_penalty(runtime: Path, generation: Path) -> None:
    """Put the checkpoint's repetition penalty into the runtime's config, where the builder leaves it out."""
    penalty = files.read_json(generation).get("repetition_penalty") if generation.exists() else None
    if penalty is not None:
        config = files.read_json(runtime)
        config["search"]["repetition_penalty"] = penalty
        runtime.write_text(json.dumps(config, indent=4), encoding="utf-8")


def _forget_repository(model: Path) -> None:
    """Take out the git commit that the builder adds, of whatever repository it is run in."""
    proto = onnx.load(model, load_external_data=False)
    proto.producer_version = proto.producer_version.partition("+")[0]
    onnx.save(proto, model)
