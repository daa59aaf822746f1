"""What training gives back: distillation, low-bit training, recovery without labels.

python -m benchmarks.training student      a small CNN taught by ResNet-56, beside itself alone
python -m benchmarks.training qat          ResNet-20 at 4 bits of weights and activations, and at 2
python -m benchmarks.training recovery     ResNet-20 at half the MACs, from images without labels
python -m benchmarks.training sparse       ResNet-20 with 80 % zeros that come while it trains
python -m benchmarks.training overhead     the loop beside a bare PyTorch loop, in turns
python -m benchmarks.training kills        SIGKILL at random moments, then the same weights
python -m benchmarks.training processes    two processes beside one, the same batches

Trained on the 20,000 CIFAR-10 images of the shared data, judged on all 10,000 test images. The
teachers were trained on all 50,000. Each run keeps its checkpoints in ``benchmarks/out/training``
and goes on from there when it is started again; ``--fresh`` starts anew.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import edgewise as ew
from edgewise.model import Model
from edgewise.train import Distill, Finetune, Optimizer, Session, Training
from edgewise.train.gradual import RisingSparsity

from .nets import ResNet, load, normalise_cifar, shared

OUT = Path(__file__).parent / "out" / "training"


class TwoConvolutions(nn.Module):
    """A student of 24,618 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.linear = nn.Linear(64 * 2 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), (8, 4))
        return self.linear(x.flatten(1))


def images() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The training images and their labels, by the roles that `load_data` knows."""
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as f:
        x, y = normalise_cifar(f["x_train"]), f["y_train"].astype(np.int64)
    return {"training": (x, y), "calibration": (x[:256], y[:256])}


def accuracy(model: Model) -> float:
    """Percent right of the 10,000 test images."""
    net = load("resnet20")
    right = 0
    for at in range(0, len(net.labels), 500):
        outputs = model(net.inputs[at : at + 500])
        right += int((outputs.argmax(1) == net.labels[at : at + 500]).sum())
    return 100 * right / len(net.labels)


def teacher(name: str) -> Model:
    net = load(name)
    return ew.load(net.module, example=net.example)


def session(name: str, **options) -> Session:
    """Keeps checkpoints, and says now and then how it goes."""
    said = [time.monotonic()]

    def watch(progress) -> None:
        if time.monotonic() - said[0] > 30:
            said[0] = time.monotonic()
            print(f"  {name}: {progress}", flush=True)

    return Session(OUT / name, every=30, watch=watch, **options)


def student(epochs: float) -> None:
    """Mean of three seeds, the same steps with and without the teacher."""
    print(f"student {sum(p.numel() for p in TwoConvolutions().parameters()):,} parameters")
    data, master = images(), teacher("resnet56")
    gains = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = ew.load(TwoConvolutions(), example=torch.zeros(1, 3, 32, 32))
        training = Training(epochs, 64, Optimizer(rate=0.1, decay=5e-4), seed=seed)
        where = [session(f"{arm}-{seed}", precision="bfloat16") for arm in ("alone", "taught")]
        alone = Finetune(training=training, session=where[0])(model, data)
        taught = Distill(master, 4.0, 0.9, training=training, session=where[1])(model, data)
        figures = accuracy(alone), accuracy(taught)
        gains.append(figures[1] - figures[0])
        print(f"seed {seed}: alone {figures[0]:.2f} %, taught {figures[1]:.2f} %", flush=True)
    print(f"gain {np.mean(gains):+.2f} points, mean of {len(gains)} seeds, {epochs:g} epochs")


def qat(epochs: float) -> None:
    """First and last layer at 8 bits, as is the custom; every other value and weight narrow."""
    data, master = images(), teacher("resnet20")
    print(f"float {accuracy(master):.2f} %", flush=True)
    for weights, activations in ((4, 4), (2, 4)):
        bits = {"*": weights, "conv1": 8, "linear": 8}
        narrow = ew.Quantize(
            weight_bits=bits, activation_bits=bits | {"*": activations}, ranges="auto"
        )(master, data)
        print(f"W{weights}A{activations}: {accuracy(narrow):.2f} % untrained", flush=True)
        training = Training(epochs, 128, Optimizer(rate=0.01), augment=("crop", "flip"))
        name = f"qat-{weights}-{activations}"
        trained = Distill(master, 4.0, 1.0, training=training, session=session(name))(narrow, data)
        print(f"W{weights}A{activations}: {accuracy(trained):.2f} % after {epochs:g} epochs")


def recovery(epochs: float) -> None:
    """alpha = 1: labels are not even given."""
    data, master = images(), teacher("resnet20")
    data = {role: x for role, (x, _) in data.items()}
    small = ew.Prune(0.5, of="macs")(master, data)
    training = Training(epochs, 128, Optimizer(rate=0.02), augment=("crop", "flip"))
    back = Distill(
        master, 4.0, 1.0, training=training, session=session("recovery", precision="bfloat16")
    )(small, data)  # fmt: skip
    whole, cut, found = (accuracy(m) for m in (master, small, back))
    share = (found - cut) / (whole - cut)
    print(
        f"{whole:.2f} % -> {cut:.2f} % at half the MACs -> {found:.2f} % after {epochs:g} epochs: "
        f"{share:.1%} of the points lost are back"
    )


def sparse(epochs: float) -> None:
    """The cubic schedule over the first 70 % of the steps, taught by the whole net; then one and a
    half times as long on mixed images, by its word alone."""
    data, master = images(), teacher("resnet20")
    training = Training(
        epochs, 128, Optimizer(rate=0.02), augment=("crop", "flip"), changes=(RisingSparsity(0.8),)
    )
    where = session("sparse", precision="bfloat16")
    thin = Distill(master, 4.0, 0.9, training=training, session=where)(master, data)
    print(f"{accuracy(thin):.2f} % after {epochs:g} epochs", flush=True)
    augment = ("crop", "flip", "mixup")
    mixed = Training(1.5 * epochs, 128, Optimizer(rate=0.02), augment=augment)
    where = session("sparse-mixed", precision="bfloat16")
    thin = Distill(master, 4.0, 1.0, training=mixed, session=where)(thin, data)
    weights = [p for p in thin.graph.parameters() if p.ndim > 1]
    zeros = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
    print(
        f"{zeros:.1%} of the weights are zero: {accuracy(thin):.2f} % after {2.5 * epochs:g} "
        f"epochs (whole {accuracy(master):.2f} %)"
    )


def overhead(rounds: float) -> None:
    """CPU seconds of so many steps, in turns; both loops on the same graph, the same batches."""
    from edgewise.train.learning import learning

    x, y = (torch.from_numpy(a[:1280]) for a in images()["training"])
    steps = len(x) // 128
    torch.manual_seed(0)
    ratios = []
    model = ew.load(ResNet(3), example=torch.zeros(1, 3, 32, 32))
    data = {"training": (np.concatenate([x, x[:142]]), np.concatenate([y, y[:142]]))}

    def bare() -> None:
        module = model.module().to(memory_format=torch.channels_last)
        net = learning(module, (), True, 1)
        optimizer = torch.optim.SGD(
            module.parameters(), 0.01, 0.9, weight_decay=1e-4, nesterov=True
        )
        for at in range(steps):
            loss = F.cross_entropy(net(x[at * 128 :][:128])[0], y[at * 128 :][:128])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def ours(epochs: int) -> None:
        Finetune(training=Training(epochs, 128, schedule="constant"))(model, data)

    def seconds(function: Callable[..., None], *args) -> float:
        start = time.process_time()
        function(*args)
        return time.process_time() - start

    for _ in range(round(rounds)):
        # Two epochs less one, so that what comes once (checks, the model's own) is left out.
        once, twice = seconds(ours, 1), seconds(ours, 2)
        ratios.append((twice - once) / seconds(bare))
    validation = f"its validation of {round(0.1 * len(data['training'][0]))} samples included"
    print(f"loop / bare loop {np.median(ratios):.3f} {np.round(sorted(ratios), 3)}, {validation}")


CHILD = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
import edgewise as ew
from edgewise.train import Finetune, Optimizer, Session, Training
from sklearn.datasets import load_digits
found = load_digits()
data = ((found.images[:, None] / 16).astype("float32"), found.target)
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
    torch.nn.Dropout(0.2), torch.nn.Flatten(), torch.nn.Linear(576, 10))
model = ew.load(net, example=torch.zeros(1, 1, 8, 8))
training = Training({epochs}, 32, Optimizer("adamw", 0.003), augment=("shift", "noise"),
                    average=0.99)
folder = sys.argv[2] if len(sys.argv) > 2 else None
trained = Finetune(training=training, session=Session(folder, every=0.1))(model, data)
np.savez(sys.argv[1], **{{k: v.detach().numpy() for k, v in trained.graph.state_dict().items()}})
"""


def kills(count: float) -> None:
    """The whole process, killed without warning, then started again with the same command."""
    OUT.mkdir(parents=True, exist_ok=True)
    folder, script = OUT / "kills", OUT / "child.py"
    shutil.rmtree(folder, ignore_errors=True)
    script.write_text(CHILD.format(epochs=40 * round(count)))
    whole, killed = OUT / "whole.npz", OUT / "killed.npz"
    killed.unlink(missing_ok=True)
    subprocess.run([sys.executable, script, whole], check=True)
    rng, done = np.random.default_rng(0), 0
    while not killed.exists():
        child = subprocess.Popen([sys.executable, script, killed, folder])
        until = time.monotonic() + 30
        while child.poll() is None and time.monotonic() < until and not any(folder.glob("step-*")):
            time.sleep(0.05)
        try:
            child.wait(5 + rng.uniform(0, 4) if done < count else None)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            done += 1
    with np.load(whole) as one, np.load(killed) as other:
        same = all(np.array_equal(one[k], other[k]) for k in one.files)
    print(f"killed {done} times; the same weights to the last bit: {same}")


def processes(epochs: float) -> None:
    """The loss of every epoch and the seconds of all."""
    OUT.mkdir(parents=True, exist_ok=True)
    script = OUT / "processes.py"
    script.write_text(
        "import sys, time, torch\n"
        "torch.set_num_threads(1)\n"
        "from benchmarks.training import *\n"
        "if __name__ == '__main__':\n"
        "    torch.manual_seed(0)\n"
        "    model = ew.load(TwoConvolutions(), example=torch.zeros(1, 3, 32, 32))\n"
        "    seen = []\n"
        "    watch = Session(watch=seen.append)\n"
        f"    training = Training({epochs}, 128, Optimizer(rate=0.05), augment=('crop', 'flip'))\n"
        "    start = time.monotonic()\n"
        "    Finetune(training=training, session=watch)(model, images())\n"
        "    if seen: print([round(p.loss, 3) for p in seen if p.step % 140 == 0], seen[-1])\n"
        "    print(round(time.monotonic() - start, 1), 's')\n"
    )
    for count in (1, 2):
        print(f"{count} process{'es' * (count - 1)}", flush=True)
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        subprocess.run([sys.executable, *launch, script], check=True)


PARTS = {  # name -> (what it does, its usual number of epochs, rounds or kills)
    "student": (student, 15), "qat": (qat, 4), "recovery": (recovery, 8),
    "sparse": (sparse, 10),
    "overhead": (overhead, 5), "kills": (kills, 20), "processes": (processes, 3),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--epochs", type=float, help="or rounds, or kills")
    parser.add_argument("--fresh", action="store_true", help="start anew")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(OUT, ignore_errors=True)
    part, usual = PARTS[options.part]
    part(usual if options.epochs is None else options.epochs)


if __name__ == "__main__":
    main()
