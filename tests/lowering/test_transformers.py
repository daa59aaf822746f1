"""BERT, GPT-2 and Llama from their configurations: quantized without data, lowered, compared."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed")

import transformers

from edgewise.compress.quantize import Quantize
from edgewise.edge import runners
from edgewise.errors import MissingExtra
from edgewise.loading import load
from edgewise.lowering import lower
from edgewise.lowering.capabilities import capabilities

TOKENS = 12
SIZES = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGURATIONS = {
    "bert": lambda: transformers.BertConfig(**SIZES, intermediate_size=128),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=50, n_embd=64, n_layer=2, n_head=4),
    "llama": lambda: transformers.LlamaConfig(
        **SIZES, intermediate_size=128, num_key_value_heads=2
    ),
}


class Hidden(torch.nn.Module):
    """The last hidden states, of token vectors, without a cache."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        more = {} if self.model.config.model_type == "bert" else {"use_cache": False}
        return self.model(inputs_embeds=x, **more).last_hidden_state


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def model(request):
    torch.manual_seed(0)
    configuration = CONFIGURATIONS[request.param]()
    configuration._attn_implementation = "eager"
    net = Hidden(transformers.AutoModel.from_config(configuration)).eval()
    x = torch.randn(4, TOKENS, 64)
    return load(net, example=x[:1]).with_samples((x.numpy(),))


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int4-dynamic", "int8-weights", "int4-weights"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert"])
def test_lowers_and_agrees(model, scheme, runtime, tmp_path):
    try:
        runners.probe(runtime)
    except MissingExtra as error:
        pytest.skip(str(error))
    if capabilities(runtime).support(scheme).speed == "none":
        pytest.skip("not on this runtime")
    group = {"group": 32} if "int4" in scheme and runtime != "litert" else {}
    small = Quantize(scheme, target=capabilities(runtime), **group)(model)
    artifact = lower(small, runtime, tmp_path / f"m{runners.get(runtime).suffixes[0]}")
    assert artifact.agreement.mean_steps < (0.5 if "dynamic" in scheme else 0.05)
    assert artifact.agreement.top1 > 0.9
