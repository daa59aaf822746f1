"""ResNet-20 and MLPerf Tiny's keyword spotting on emulated Arm cores, out of signed bundles.

Each network, in float and in int8, becomes a signed bundle with a file for LiteRT and one for ONNX
Runtime, and is deployed to the Cortex-A72 and -A76: the emulated device checks signature and
hashes, unpacks, runs the golden inputs, and then 200 evaluation samples with the real aarch64
wheels. Told is how often the file puts the same class first there as here, how far its outputs are
off, the accuracy there and here, and whether anything was left behind. Time on an emulated core
means nothing and is not given.

    python -m benchmarks.emulated [--cpu cortex-a72] [--net resnet20] [--samples 200]
    python -m benchmarks.emulated --device ssh://user@host[/python]     # a real one

The first run fetches qemu and a Debian root into the user's cache (about 250 MB). Exit code 1 when
a figure is short of what it must reach.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import edgewise as ew
from edgewise.devices import connect
from edgewise.devices.emulated import Emulated
from edgewise.model import Model

from .nets import SHARED, load

__all__ = ["NETS", "network"]

OUT = Path(__file__).parent / "out" / "emulated"
NETS = ("resnet20", "kws01")
PRECISIONS = ("float", "int8")
CPUS = ("cortex-a72", "cortex-a76")
FILES = {"litert": "tflite", "onnxruntime": "onnx"}
LEAST = 0.999  # agreement with the host

Samples = tuple[np.ndarray, np.ndarray]


def network(name: str) -> tuple[Model, np.ndarray, Samples]:
    """A Model, inputs to calibrate on, and the evaluation inputs with their labels."""
    if name == "kws01":
        folder = SHARED / "mlperf_tiny" / "kws01"
        # Its arithmetic is float; its weights were rounded to int8 and stay those numbers.
        model = ew.Dequantize()(ew.load(folder / "kws_ref_model_float32.tflite"))
        with np.load(folder / "kws01_eval_mfcc_int8.npz") as data:
            shape = model.signature.inputs[0].shape[1:]
            x = (0.5847029 * (data["x"].astype(np.float32) - 83)).astype(np.float32)
            x = x.reshape(-1, *shape)
            return model, x[500:756], (x[:500], data["y"][:500].astype(np.int64))
    net = load(name)
    model = ew.load(net.module, example=net.example)
    return model, net.calibration[:256], (net.inputs, net.labels)


def bundles(name: str, precisions: Sequence[str]) -> tuple[list[Path], Samples]:
    """The network's signed bundles, and its evaluation samples; the key is ``key.pub``."""
    model, calibration, samples = network(name)
    made = []
    for precision in precisions:
        some = model
        if precision == "int8":
            some = ew.Quantize("int8")(model, {"calibration": calibration})
        folder = OUT / name / precision
        folder.mkdir(parents=True, exist_ok=True)
        files = [ew.lower(some, r, folder / f"net.{suffix}") for r, suffix in FILES.items()]
        path = OUT / f"{name}-{precision}.edge"
        ew.bundle(files, path, key=_key(), data={"evaluation": samples}).close()
        made.append(path)
    return made, samples


def _key() -> Path:
    """A private key, made once; its public half lies beside it."""
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    path = OUT / "key.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        text, spki = pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo
        path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(text, spki))
        secret = key.private_bytes(text, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        path.write_bytes(secret)
    return path


def home(place: object) -> list[str]:
    """Every file in the device's home."""
    if isinstance(place, Emulated):
        return sorted(str(path) for path in place.home.rglob("*"))
    hidden = Path(place.scratch).name
    return sorted(n for n in place.shell("cd && find .").splitlines() if hidden not in n)


def rows(path: Path, device: str, samples: Samples) -> list[dict[str, object]]:
    """Deploy a bundle, clean up, and tell what came of each of its files."""
    with connect(device) as place:
        before = home(place)
    found = ew.deploy(
        path, device, key=OUT / "key.pub", data={"evaluation": samples}, threads=1, clean=True
    )
    with connect(device) as place:
        left = len(set(home(place)) - set(before))
    made = []
    for trial in found.trials:
        m, agreement = trial.measurement, trial.measurement.device_agreement
        file = OUT / path.stem.replace("-", "/") / f"net.{FILES[trial.runtime]}"
        here = ew.Artifact.open(file).run(samples[0]).argmax(-1) == samples[1]
        made.append({
            "network": path.stem, "file": trial.runtime, "device": device,
            "checked": found.checked, "golden_off": f"{max(trial.golden.max_abs):.2g}",
            "n": agreement.n, "as_here": agreement.top1, "most_steps": agreement.max_steps,
            "accuracy": m.value, "here": float(np.mean(here)), "memory": m.memory_bytes,
            "p50": m.latency_ms and m.latency_ms.p50, "left": left, "passed": trial.passed,
        })  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", nargs="+", default=CPUS)
    parser.add_argument("--net", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--device", nargs="+", help="instead of --cpu, as `edgewise deploy` has it")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    devices = given.device or [f"emulated:{cpu}" for cpu in given.cpu]
    short, told = False, False
    with (OUT / "emulated.jsonl").open("a") as log:
        for name in given.net:
            made, (x, y) = bundles(name, given.precision)
            for path in made:
                for device in devices:
                    for row in rows(path, device, (x[: given.samples], y[: given.samples])):
                        short |= row["as_here"] < LEAST or not row["passed"] or row["left"] > 0
                        print(json.dumps(row), file=log, flush=True)
                        if not told:
                            print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
                            told = True
                        cells = (f"{v:.4g}" if isinstance(v, float) else v for v in row.values())
                        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    raise SystemExit(short)


if __name__ == "__main__":
    main()
