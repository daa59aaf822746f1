"""The Keras files of the data, loaded: against Keras itself, and lowered to each runtime.

python -m benchmarks.keras_doors                     outputs, layout, import time
python -m benchmarks.keras_doors --accuracy          MLPerf Tiny's ResNet-8 on the CIFAR-10 test set
python -m benchmarks.keras_doors --latency           ... and its latency

For each file: seconds to load, the largest difference of an output from Keras' own, the permutes
that are left, and the same difference through each runtime. MobileNetV2 (random weights) is saved
by Keras and timed.

``--accuracy`` runs ResNet-8 float and int8 on every runtime. ``--latency`` times those files beside
the same network written in PyTorch, all of one runtime interleaved, and on LiteRT beside
TensorFlow's own int8 file.

Exit code 1 when something is not as it must be: outputs within 1e-4 of Keras', no permute but of
the input, 10 s to load, 87.19 % in float.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgewise as ew
from edgewise.edge import benchmark
from edgewise.edge.artifact import Artifact
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import EdgewiseError

from .nets import CALIBRATION, shared

__all__ = ["ResNet8", "main"]

SAMPLES, CLOSE, SLOWEST = 32, 1e-4, 10.0
ACCURACY = 0.8719
BATCH = 100


def files() -> dict[str, tuple[Path, np.ndarray]]:
    """Each file and inputs for it, real ones where there are any."""
    tiny, rng = shared("mlperf_tiny"), np.random.default_rng(0)
    with np.load(shared("st_har", "st_har_26hz_4g_mg.npz")) as recordings:
        motion = np.stack([recordings[key][100:126] for key in recordings.files[:SAMPLES]]) / 4000
    with np.load(tiny / "sww01" / "calibration_samples.npz") as samples:
        words = samples["specs"][:SAMPLES]
    found = {
        "ic01": (tiny / "ic01" / "pretrainedResnet.h5", cifar10()[1][:SAMPLES]),
        "vww01": (tiny / "vww01" / "vww_96.h5", rng.uniform(0, 1, (SAMPLES, 96, 96, 3))),
        "ad01": (tiny / "ad01" / "ad01.h5", rng.normal(0, 1, (SAMPLES, 640))),
        "sww01": (tiny / "sww01" / "str_ww_ref_model.h5", words),
        "st_har": (shared("st_har", "model.h5"), motion),
    }
    return {name: (path, x.astype(np.float32)) for name, (path, x) in found.items()}


@cache
def cifar10() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw pixels 0..255, channels last: those of calibration, the test images, their labels."""
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as f:
        training, test = f["x_train"][:CALIBRATION], f["x_test"]
        return training.astype(np.float32), test.astype(np.float32), f["y_test"].astype(np.int64)


def by_keras(path: Path, inputs: np.ndarray) -> np.ndarray:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    class Depthwise(keras.layers.DepthwiseConv2D):
        """Keras 2 wrote an argument that Keras 3 refuses."""

        def __init__(self, *args, groups: int = 1, **kwargs):
            super().__init__(*args, **kwargs)

    known = {"DepthwiseConv2D": Depthwise}
    model = keras.saving.load_model(path, compile=False, custom_objects=known)
    return model(inputs, training=False).detach().numpy()


def inner_permutes(model: ew.Model) -> int:
    """How many permutes there are besides those of the inputs."""
    target = torch.ops.aten.permute.default
    nodes = [node for node in model.graph.graph.nodes if node.target is target]
    return sum(node.args[0].op != "placeholder" for node in nodes)


def tried(name: str, path: Path, inputs: np.ndarray, runtimes: Sequence[str], folder: Path) -> bool:
    """Print what one file gives, and whether it gives what it must."""
    start = time.perf_counter()
    model = ew.load(path)
    seconds = time.perf_counter() - start
    want = by_keras(path, inputs)
    scale = max(1.0, float(np.abs(want).max()))
    apart = float(np.abs(model(inputs) - want).max()) / scale
    inner = inner_permutes(model)
    print(f"{name}: {seconds:.1f} s, {apart:.1e} from Keras, {inner} inner permutes", flush=True)
    good = apart <= CLOSE and not inner and seconds <= SLOWEST
    for runtime in runtimes:
        file = folder / f"{name}{RUNTIMES[runtime].suffixes[0]}"
        try:
            apart = float(np.abs(ew.lower(model, runtime, file).run(inputs) - want).max()) / scale
            print(f"  {runtime}: {apart:.1e} from Keras", flush=True)
            good &= apart <= CLOSE
        except EdgewiseError as error:
            print(f"  {runtime}: {error}")
            good = False
    return good


def timed_import(folder: Path) -> bool:
    """Load MobileNetV2 as Keras saves it."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    path = folder / "mobilenet_v2.keras"
    keras.applications.MobileNetV2(weights=None).save(path)
    start = time.perf_counter()
    model = ew.load(path)
    seconds = time.perf_counter() - start
    print(f"MobileNetV2: {seconds:.1f} s, {inner_permutes(model)} inner permutes")
    return seconds <= SLOWEST and not inner_permutes(model)


# --- ResNet-8 -----------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a shortcut, through a 1x1 convolution where the size changes."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride), nn.BatchNorm2d(out, 1e-3)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out, 1e-3)
        self.conv1.padding = (0, 0) if stride == 2 else (1, 1)
        self.pad = (0, 1, 0, 1) if stride == 2 else (0, 0, 0, 0)
        self.shortcut = nn.Conv2d(channels, out, 1, stride) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(F.pad(x, self.pad) if any(self.pad) else x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet8(nn.Module):
    """MLPerf Tiny's image classifier as one would write it in PyTorch."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16, 1e-3)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return torch.softmax(self.head(torch.flatten(F.avg_pool2d(x, 8), 1)), 1)


def like(model: ew.Model) -> ResNet8:
    """The network in PyTorch with the weights of the loaded one, layer by layer."""
    net = ResNet8().eval()
    theirs = {kind: _owners(model.graph, kind) for kind in ("conv2d", "batch_norm", "dense")}
    for module in net.modules():
        kind = {nn.Conv2d: "conv2d", nn.BatchNorm2d: "batch_norm", nn.Linear: "dense"}
        if (name := kind.get(type(module))) is None:
            continue
        owner = theirs[name].pop(0)
        for key, value in {**module._parameters, **module._buffers}.items():
            if key != "num_batches_tracked":
                value.data.copy_(getattr(owner, key))
    return net


def _owners(graph: nn.Module, kind: str) -> list[nn.Module]:
    """The layers of a kind in the order of Keras' numbers, which is that of `ResNet8`."""
    pattern = re.compile(rf"{kind}(?:alization)?(?:_(\d+))?")
    found = [(match, m) for n, m in graph.named_children() if (match := pattern.fullmatch(n))]
    return [m for _, m in sorted(found, key=lambda pair: int(pair[0][1] or 0))]


def resnets(folder: Path, runtimes: Iterable[str]) -> dict[tuple[str, str, str], Artifact]:
    """Files by (runtime, precision, source)."""
    training, _, _ = cifar10()
    keras = ew.load(shared("mlperf_tiny", "ic01", "pretrainedResnet.h5"))
    first = np.ascontiguousarray(training.transpose(0, 3, 1, 2))
    pytorch = ew.load(like(keras), torch.from_numpy(first[:1]))
    np.testing.assert_allclose(pytorch(first[:8]), keras(training[:8]), atol=1e-5)
    made = {}
    for source, model, data in (("keras", keras, training), ("pytorch", pytorch, first)):
        quantized = ew.Quantize("int8")(model, {"calibration": data})
        for runtime in runtimes:
            for kind, each in (("float", model), ("int8", quantized)):
                file = folder / f"{source}-{kind}{RUNTIMES[runtime].suffixes[0]}"
                made[runtime, kind, source] = ew.lower(each, runtime, file)
    return made


def judged(made: dict[tuple[str, str, str], Artifact]) -> bool:
    """Accuracy of what came from Keras on all 10,000 test images."""
    _, images, labels = cifar10()
    model = ew.load(shared("mlperf_tiny", "ic01", "pretrainedResnet.h5"))
    parts = np.split(images, range(BATCH, len(images), BATCH))
    chosen = np.concatenate([model(part).argmax(1) for part in parts])
    good = _accuracy("Model float", chosen, labels) >= ACCURACY - 1e-9
    for (runtime, kind, source), artifact in made.items():
        if source == "keras":
            found = _accuracy(f"{runtime} {kind}", artifact.run(images).argmax(1), labels)
            good &= kind == "int8" or abs(found - ACCURACY) <= 1e-4
    return good


def _accuracy(what: str, chosen: np.ndarray, labels: np.ndarray) -> float:
    found = float(np.mean(chosen == labels))
    print(f"{what}: {found:.2%}", flush=True)
    return found


def clocked(
    made: dict[tuple[str, str, str], Artifact], runtimes: Iterable[str], threads: int
) -> None:
    for runtime in runtimes:
        subjects: dict[str, Artifact | Path] = {
            f"{kind} from {source}": artifact
            for (r, kind, source), artifact in made.items()
            if r == runtime
        }
        if runtime == "litert":
            tiny = shared("mlperf_tiny", "ic01")
            subjects["int8 of TensorFlow"] = tiny / "pretrainedResnet_quant.tflite"
            subjects["float of TensorFlow"] = tiny / "pretrainedResnet.tflite"
        timings = dict(
            zip(
                subjects, benchmark.benchmark(list(subjects.values()), threads=threads), strict=True
            )
        )
        for kind in ("float", "int8"):
            ours = timings[f"{kind} from keras"]
            for other in (f"{kind} from pytorch", f"{kind} of TensorFlow"):
                if other in timings:
                    ratio = benchmark.compare(ours, timings[other])
                    low, high = ratio.ci95
                    print(
                        f"{runtime} {kind}: {ours.latency.p50:.3f} ms, {ratio.value:.2f} "
                        f"[{low:.2f}, {high:.2f}] times the {other}"
                    )


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keras_doors")
    parser.add_argument("--runtime", nargs="+", choices=RUNTIMES, default=tuple(RUNTIMES))
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.accuracy or given.latency:
            made = resnets(folder, given.runtime)
            good = judged(made) if given.accuracy else True
            if given.latency:
                clocked(made, given.runtime, given.threads)
        else:
            results = [tried(n, *f, given.runtime, folder) for n, f in files().items()]
            good = all(results)
            good &= timed_import(folder)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
