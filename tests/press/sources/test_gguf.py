"""A model in GGUF comes with all of its weights, or a sentence says what it lacks."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from press.core.errors import UserError
from press.model import checkpoints
from press.sources import gguf, tokenizers

from .models import CONFIG

BYTES = tokenizers.of_bytes()
TOKENS = [*BYTES.convert_ids_to_tokens(range(len(BYTES))), "ĠĠ"]
WIDTH, ROWS = CONFIG["hidden_size"], len(TOKENS)


@pytest.mark.parametrize("layers", [10**7, 0, -1, None])
def test_a_number_of_layers_that_is_not_that_of_the_weights_is_refused(layers):
    names = ("token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight")
    with pytest.raises(UserError) as caught:
        gguf.check_layers("a.gguf", {"general.architecture": "llama", "llama.block_count": layers}, names)
    assert str(caught.value) == f"a.gguf has llama.block_count {layers}, but the weights of 2 layers"


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a llama of one layer, by llama.cpp's names."""
    inner, half = CONFIG["intermediate_size"], WIDTH // 2
    layer = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (half, WIDTH),
        "attn_v": (half, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (inner, WIDTH),
        "ffn_up": (inner, WIDTH),
        "ffn_down": (WIDTH, inner),
    }
    found = {"token_embd.weight": (ROWS, WIDTH), "output_norm.weight": (WIDTH,)}
    return found | {f"blk.0.{name}.weight": shape for name, shape in layer.items()}


def written(path: Path, tensors: dict[str, tuple[int, ...]], width: int = WIDTH, eot: int | None = None) -> Path:
    """Write a model of random numbers in GGUF; return its path.

    :param width: what it says of its embedding
    :param eot: the token that ends a turn, if it says so
    """
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(CONFIG["intermediate_size"])
    writer.add_head_count(CONFIG["num_attention_heads"])
    writer.add_head_count_kv(CONFIG["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(ROWS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if index in BYTES.all_special_ids else 1 for index in range(ROWS)])
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_eos_token_id(BYTES.eos_token_id)
    if eot is not None:
        writer.add_eot_token_id(eot)
    random = np.random.default_rng(0)
    for name, shape in tensors.items():
        writer.add_tensor(name, random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.mark.integration
def test_a_whole_model_is_converted_with_its_pre_tokenizer(tmp_path, target):
    gguf.convert(written(tmp_path / "a.gguf", shapes()), target)
    assert load_file(target / checkpoints.SINGLE)["model.layers.0.mlp.down_proj.weight"].shape == (16, 32)
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    assert tokenizer.encode("a\n  12").tokens == ["a", "Ċ", "ĠĠ", "1", "2"]
    assert checkpoints.eos_ids(target) == [BYTES.eos_token_id]


@pytest.mark.integration
def test_an_answer_ends_with_all_tokens_that_the_file_names(tmp_path, target):
    path = written(tmp_path / "a.gguf", shapes(), eot=BYTES.bos_token_id)
    gguf.convert(path, target)
    assert checkpoints.eos_ids(target) == [BYTES.eos_token_id, BYTES.bos_token_id]


@pytest.mark.integration
def test_a_model_without_one_of_its_weights_is_refused(tmp_path, target):
    some = shapes()
    some["blk.0.attn_query.weight"] = some.pop("blk.0.attn_q.weight")
    with pytest.raises(UserError) as caught:
        gguf.convert(written(tmp_path / "a.gguf", some), target)
    assert str(caught.value) == (
        "a.gguf lacks 1 of its architecture's weights, such as model.layers.0.self_attn.q_proj.weight: they would be "
        "random numbers"
    )


@pytest.mark.integration
@pytest.mark.parametrize("extra", ["rope_freqs.weight", "blk.0.attn_q.bias"])
def test_a_model_with_a_weight_that_transformers_leaves_out_is_refused(tmp_path, target, extra):
    path = written(tmp_path / "a.gguf", shapes() | {extra: (WIDTH,)})
    with pytest.raises(UserError) as caught:
        gguf.convert(path, target)
    assert str(caught.value) == (
        f"a.gguf has 1 weights that transformers leaves out, such as {extra}: without them it would be another model"
    )


@pytest.mark.integration
def test_a_damaged_file_is_a_sentence(tmp_path, target):
    (tmp_path / "a.gguf").write_bytes(b"no GGUF" * 100)
    with pytest.raises(UserError, match=r"^the base model's a\.gguf cannot be read \(ValueError: "):
        gguf.convert(tmp_path / "a.gguf", target)


@pytest.mark.integration
def test_sizes_that_are_not_those_of_the_weights_are_a_sentence(tmp_path, target):
    path = written(tmp_path / "a.gguf", shapes(), width=10**9)
    with pytest.raises(UserError, match=r"^the base model's a\.gguf cannot be read \(\w+Error: "):
        gguf.convert(path, target)
