"""The loop: what it leaves, what it survives, what it refuses."""

import dataclasses
import runpy
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.errors import DataError, InputError, StepError
from edgewise.train.training import Optimizer, Session, Training

from .conftest import accuracy, network


def weights(model) -> dict[str, torch.Tensor]:
    return {**dict(model.graph.named_parameters()), **dict(model.graph.named_buffers())}


def same(one, other) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_training_teaches_and_says_how(digits, short):
    seen = []
    session = Session(watch=seen.append)
    model = ew.Finetune(training=short, session=session)(network(8), digits)
    assert accuracy(model, digits) > 0.8
    assert seen[-1].step == seen[-1].steps
    assert seen[-1].loss < seen[0].loss
    assert seen[-1].validation[0] == "accuracy"
    assert model.lineage[-1].params == {
        "training": {"epochs": 2, "batch": 64, "optimizer": {"rate": 0.05}}
    }


def test_the_same_seed_gives_the_same_bits_and_another_does_not(digits, short):
    one, again = (ew.Finetune(training=short)(network(4), digits) for _ in range(2))
    assert same(one, again)
    other = dataclasses.replace(short, seed=1)
    assert not same(one, ew.Finetune(training=other)(network(4), digits))


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(digits, short, tmp_path):
    training = dataclasses.replace(
        short, augment=("shift", "noise"), average=0.9, optimizer=Optimizer("adamw", 0.01)
    )
    whole = ew.Finetune(training=training)(network(4), digits)

    class Stop(Exception):
        pass

    def stop_at(step):
        def watch(progress):
            if progress.step >= step:
                raise Stop

        return watch

    for step in (5, 21, 22, 30):
        session = Session(tmp_path, every=0, watch=stop_at(step))
        with pytest.raises(Stop):
            ew.Finetune(training=training, session=session)(network(4), digits)
    last = ew.Finetune(training=training, session=Session(tmp_path))(network(4), digits)
    assert same(whole, last)
    # Once it has ended, the same call hands the result back.
    assert same(
        whole, ew.Finetune(training=training, session=Session(tmp_path))(network(4), digits)
    )


def test_a_damaged_checkpoint_is_passed_over(digits, short, tmp_path):
    whole = ew.Finetune(training=short, session=Session(tmp_path, every=0))(network(4), digits)
    newest = max(tmp_path.glob("step-*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    (tmp_path / "step-999999999-0123456789abcdef.safetensors").write_bytes(b"")
    again = ew.Finetune(training=short, session=Session(tmp_path, every=0))(network(4), digits)
    assert same(whole, again)


def test_another_trainings_folder_is_refused(digits, short, tmp_path):
    ew.Finetune(training=short, session=Session(tmp_path))(network(4), digits)
    with pytest.raises(InputError, match="another training"):
        ew.Finetune(training=short, session=Session(tmp_path))(network(4, seed=1), digits)


def test_a_loss_that_explodes_says_where_and_keeps_the_last_checkpoint(digits, tmp_path):
    training = Training(epochs=3, batch=64, optimizer=Optimizer(rate=1e6, warmup=0.9))
    with pytest.raises(StepError, match=r"the loss became (nan|inf) at step \d+ of .*checkpoint"):
        ew.Finetune(training=training, session=Session(tmp_path, every=0))(network(4), digits)
    assert list(tmp_path.glob("step-*.safetensors"))


def test_a_full_disk_is_one_sentence_and_leaves_what_was(digits, short, tmp_path, monkeypatch):
    from edgewise.train import checkpoint

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(StepError, match="No space left on device; make room"):
        ew.Finetune(training=short, session=Session(tmp_path, every=0))(network(4), digits)
    assert not list(tmp_path.glob("step-*"))


def test_zeros_stay_zero(digits, short):
    model = network(8)
    module = model.module()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter[torch.rand(parameter.shape) < 0.5] = 0
    sparse = ew.Finetune(training=short)(dataclasses.replace(model, graph=module), digits)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            trained = sparse.graph.get_parameter(name)
            assert bool((trained[parameter == 0] == 0).all())
            assert not torch.equal(trained, parameter)


def test_a_change_runs_before_every_step_and_its_zeros_stay(digits, short):
    @dataclasses.dataclass(frozen=True)
    class Thin:
        name: str
        needs_movement = False

        def __call__(self, module, at, movement):
            assert not movement
            if at < 0.5:
                return False
            module.get_parameter(self.name).data[:, 0] = 0
            return True

    model = network(4)
    name = next(n for n, p in model.graph.named_parameters() if p.ndim == 2)
    training = dataclasses.replace(short, changes=(Thin(name),))
    thin = ew.Finetune(training=training)(model, digits)
    assert bool((thin.graph.get_parameter(name)[:, 0] == 0).all())


@pytest.mark.parametrize("average", [0.95, "swa"])
def test_averages_are_what_is_handed_back(digits, short, average):
    training = dataclasses.replace(short, average=average)
    averaged = ew.Finetune(training=training)(network(8), digits)
    assert not same(averaged, ew.Finetune(training=short)(network(8), digits))
    assert accuracy(averaged, digits) > 0.75


def test_patience_ends_a_training_that_gets_no_better(digits):
    seen = []
    training = Training(
        epochs=50, batch=64, optimizer=Optimizer(rate=1e-12), patience=2, schedule="constant"
    )
    ew.Finetune(training=training, session=Session(watch=seen.append))(network(4), digits)
    assert seen[-1].step == 3 * seen[-1].steps / 50  # the first, and two that were no better


def test_parts_of_a_batch_add_up_to_it(digits):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    model = ew.load(net, example=torch.zeros(1, 1, 8, 8))
    training = Training(epochs=1, batch=64)
    whole = ew.Finetune(training=training)(model, digits)
    parts = ew.Finetune(training=training, session=Session(accumulate=4))(model, digits)
    x = digits[0][:50]
    np.testing.assert_allclose(whole(x), parts(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_or_not_it_learns_the_same(digits, short):
    plain, tried = (
        ew.Finetune(training=short, session=Session(compile=c))(network(4), digits)
        for c in (False, True)
    )
    x = digits[0][:50]
    np.testing.assert_allclose(plain(x), tried(x), rtol=1e-2, atol=1e-2)


def test_half_precision_learns_nearly_the_same(digits, short):
    session = Session(precision="bfloat16")
    model = ew.Finetune(training=short, session=session)(network(8), digits)
    assert accuracy(model, digits) > 0.75
    assert {p.dtype for p in model.graph.parameters()} == {torch.float32}


def test_data_without_labels_or_without_end_are_refused(digits, short):
    with pytest.raises(DataError, match="learns from labels"):
        ew.Finetune(training=short)(network(4), digits[0])
    with pytest.raises(DataError, match="training needs samples"):
        ew.Finetune(training=short)(network(4))


def test_a_sample_that_cannot_be_read_ends_the_training_with_its_name(digits, short):
    class Breaks(torch.utils.data.Dataset):
        def __len__(self):
            return 500

        def __getitem__(self, i):
            if i == 77:
                raise ValueError("torn page")
            return digits[0][i], int(digits[1][i])

    with pytest.raises(DataError, match="torn page"):
        ew.Finetune(training=short)(network(4), {"training": Breaks()})


TWO = """
    import sys
    import numpy as np, torch
    torch.set_num_threads(1)
    import edgewise as ew
    from edgewise.train.training import Optimizer, Session, Training
    from sklearn.datasets import load_digits

    if __name__ == "__main__":
        found = load_digits()
        digits = ((found.images[:, None] / 16).astype("float32"), found.target)
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Linear(144, 10))
        model = ew.load(net, example=torch.zeros(1, 1, 8, 8))
        training = Training(epochs=1, batch=64, optimizer=Optimizer(rate=0.05), augment=("shift",))
        seen = []
        done = ew.Finetune(training=training, session=Session(watch=seen.append))(model, digits)
        import os
        if os.environ.get("RANK", "0") == "0":
            np.save(sys.argv[1], done(digits[0][:200]))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, monkeypatch):
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(TWO))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), str(tmp_path / "two.npy")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    monkeypatch.setattr(sys, "argv", ["two.py", str(tmp_path / "one.npy")])
    runpy.run_path(str(script), run_name="__main__")
    one, two = (np.load(tmp_path / f"{name}.npy") for name in ("one", "two"))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)


def test_norms_that_gather_slowly_still_know_what_they_saw(digits, short):
    """Keras' momentum keeps nine tenths of the old statistics over ten steps."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4, momentum=0.01),
        torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10),
    )  # fmt: skip
    net[1].running_mean += 5.0  # far from what it sees
    model = ew.load(net.eval(), example=torch.zeros(1, 1, 8, 8))
    trained = ew.Finetune(training=short)(model, digits)
    (mean,) = (v for name, v in trained.graph.named_buffers() if name.endswith("running_mean"))
    assert mean.abs().max() < 2.0
