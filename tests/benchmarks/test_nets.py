"""The networks are the published ones: their shapes, and with the real data their accuracy."""

import numpy as np
import pytest
import torch

from benchmarks import judging, nets


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_resnets_have_the_parameters_of_the_paper(depth, parameters):
    # Table 6 of He et al. says 0.27 M, 0.46 M and 0.85 M.
    net = nets.ResNet((depth - 2) // 6).eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_mobilenet_has_53_layers_and_halves_as_tensorflow_does():
    net = nets.MobileNetV2().eval()
    assert len(list(net.layers())) == 53
    assert sum(p.numel() for p in net.parameters()) == 3_489_097  # ORIGIN.md of the data
    stem = net.stem
    x = torch.randn(1, 3, 8, 8)
    at_end = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (0, 1, 0, 1)), stem.weight, stem.bias, stride=2
    )
    assert torch.equal(stem(x), at_end)


@pytest.mark.usefixtures("shared_data")
def test_resnet20_has_its_published_accuracy():
    # On the first 1,000 test images; `python -m benchmarks.nets` runs all of them (91.73 %).
    net = nets.load("resnet20")
    assert net.calibration.shape == (256, 3, 32, 32)
    assert net.inputs.shape == (10_000, 3, 32, 32)
    with torch.inference_mode():
        logits = net.module(torch.from_numpy(net.inputs[:1000])).numpy()
    assert judging.top1(logits, net.labels[:1000]) == pytest.approx(0.899, abs=0.0005)


def test_agreement_counts_ties_as_equal_and_steps_of_the_grid():
    want = np.array([[3.0, 3.0, 0.0], [1.0, 0.0, 2.0]], np.float32)
    have = np.array([[2.0, 3.0, 0.0], [1.0, 0.0, 2.0]], np.float32)
    found = judging.agreement(want, have, step=0.5)
    assert found.top1 == 1.0
    assert found.max_steps == 2.0
    assert found.within_one == pytest.approx(5 / 6)
    assert judging.agreement(want, want[:, ::-1], step=0.5).top1 == 0.5
