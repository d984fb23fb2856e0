"""A model of random weights is the same by its seed, or a sentence says what its configuration lacks."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints
from press.sources import fetching

from .models import built


@pytest.mark.integration
def test_a_random_model_is_the_same_by_seed_and_another_by_another_seed(model, tmp_path):
    digest = files.folder_digest(model)
    assert files.folder_digest(built(tmp_path / "same")) == digest
    other = files.digests(built(tmp_path / "other", seed=2))
    assert [name for name, sha in files.digests(model).items() if other[name] != sha] == ["model.safetensors"]


@pytest.mark.integration
def test_a_random_model_loads_in_transformers_and_ends_turns(model):
    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert loaded.config.vocab_size == len(AutoTokenizer.from_pretrained(model)) == 256 + 3
    assert checkpoints.eos_ids(model) == [258]
    assert AutoTokenizer.from_pretrained(model).convert_ids_to_tokens(258) == "<|im_end|>"
    fetching.check(model, trust=False)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "no-such-model"}, "Unrecognized model identifier: no-such-model."),
        ({"hidden_size": "wide"}, "hidden_size is 'wide', but it must be a whole number"),
        ({"hidden_size": 15}, "The hidden size (15) is not a multiple of the number of attention heads (2)."),
        ({"vocab_size": 10}, "Padding_idx must be within num_embeddings"),
        ({"hidden_size": -16}, "hidden_size is -16, but it must be a whole number from 1 to 2147483647"),
        ({"num_labels": 10**9}, "num_labels is 1000000000, but it must be a whole number from 1 to 100000"),
        ({"rope_theta": 0}, "rope_theta is 0, but it must be a number above 0"),
    ],
)
def test_a_configuration_of_no_language_model_is_a_sentence(tmp_path, config, reason):
    with pytest.raises(UserError) as caught:
        built(tmp_path / "model", **config)
    message = str(caught.value)
    assert message.startswith("base.random.config describes no causal language model: ")
    assert reason in message
    assert len(message.splitlines()) == 1
    assert len(message) < 300
