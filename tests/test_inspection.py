import pytest
import torch
from torch import nn

from edgewise.compress.cluster import Cluster
from edgewise.compress.quantize import Quantize
from edgewise.compress.sparsify import Sparsify
from edgewise.inspection import inspect
from edgewise.loading.torch import load_module

from .nets import make, quantized


def test_counts_what_the_definitions_say():
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 2, stride=2, bias=False),
        nn.Flatten(),
        nn.Linear(3 * 10 * 10, 7),
    )
    found = inspect(load_module(net, torch.zeros(1, 4, 5, 5)))
    assert [row.operator for row in found.layers] == ["conv2d", "conv_transpose2d", "linear"]
    assert [row.macs for row in found.layers] == [6 * 25 * 2 * 9, 6 * 25 * 3 * 4, 300 * 7]
    assert [row.parameters for row in found.layers] == [6 * 2 * 9 + 6, 6 * 3 * 4, 300 * 7 + 7]
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert found.bytes == 4 * found.parameters
    assert found.layers[2].output == (7,)


def test_attention_multiplies_twice():
    net, x = make("encoder")
    found = inspect(load_module(net, x[:1]))
    (attention,) = [r for r in found.layers if r.operator == "scaled_dot_product_attention"]
    assert attention.macs == 2 * (2 * 5 * 5 * 8)


def test_quantized_weights_take_a_byte_and_biases_four():
    model, _ = quantized("perceptron")
    found = inspect(model)
    assert {row.precision for row in found.layers} == {"int8"}
    # weights, biases, and the scales and zero points of the output channels are apart
    assert found.parameters == 12 * 16 + 16 + 16 * 3 + 3
    assert found.bytes == 12 * 16 + 16 * 3 + 4 * (16 + 3)


@pytest.mark.parametrize(
    ("scheme", "bits", "name"),
    [("int8-weights", 8, "int8"), ("int4-dynamic", 4, "int4"), ("float16", 16, "float16")],
)
def test_weights_take_the_bits_of_their_scheme(scheme, bits, name):
    net, x = make("perceptron")
    group = {"group": 4} if bits == 4 else {}
    found = inspect(Quantize(scheme, **group)(load_module(net, x[:1])))
    assert [row.precision for row in found.layers] == [name, name]
    assert found.bytes == (12 * 16 + 16 * 3) * bits // 8 + 4 * (16 + 3)


def test_zeros_shared_values_and_coded_bytes_are_shown():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 8))
    model = load_module(net, torch.zeros(1, 64))
    assert inspect(model, ()).coded is None
    sparse = Sparsify(0.75)(model)
    found = inspect(sparse, ())
    assert [row.zeros for row in found.layers if row.parameters] == [6144, 768]
    clustered = inspect(Cluster(3)(sparse), ())
    first = clustered.layers[0]
    assert (first.zeros, first.precision) == (6144, "codebook") and first.values <= 8
    assert clustered.coded < 0.3 * found.coded < 0.3 * found.bytes
