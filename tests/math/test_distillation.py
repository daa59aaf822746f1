"""The distances of distillation against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from edgewise.math import distillation as d


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)


def test_soft_divergence_is_hintons(logits):
    student, teacher = logits
    p, q = F.softmax(teacher / 3, 1), F.softmax(student / 3, 1)
    want = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(d.soft_divergence(student, teacher, 3.0), want)


def test_soft_divergence_of_the_teacher_itself_is_nothing(logits):
    _, teacher = logits
    assert abs(d.soft_divergence(teacher, teacher, 2.0).item()) < 1e-6


def test_at_high_temperature_the_gradient_is_that_of_squared_logits(logits):
    # arXiv:1503.02531, section 2.1, for logits of zero mean.
    student, teacher = logits
    centred = [x - x.mean(1, keepdim=True) for x in (student, teacher)]
    (got,) = torch.autograd.grad(d.soft_divergence(*centred, 1e3), student)
    want = (centred[0] - centred[1]).detach() / (5 * 6)
    torch.testing.assert_close(got, want, rtol=0.02, atol=1e-4)


def test_decoupled_parts_make_up_the_whole(logits):
    # arXiv:2203.08679, equation 5: KL = TCKD + (1 - the teacher's chance of the target) NCKD.
    student, teacher = (x[:1] for x in logits)
    target = torch.tensor([2])
    alone = d.decoupled_divergence(student, teacher, target, 1.0, weight=0.0)
    other = d.decoupled_divergence(student, teacher, target, 1.0, weight=1.0) - alone
    rest = 1 - F.softmax(teacher, 1)[0, 2]
    torch.testing.assert_close(alone + rest * other, d.soft_divergence(student, teacher, 1.0))


def test_decoupled_has_a_finite_gradient_where_the_teacher_is_sure():
    student = torch.zeros(1, 3, requires_grad=True)
    loss = d.decoupled_divergence(student, torch.tensor([[90.0, 0, 0]]), torch.tensor([0]), 1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(gradient).all()


def test_a_mixture_of_teachers_is_the_mean_of_their_chances():
    teachers = [torch.randn(4, 3), torch.randn(4, 3)]
    got = F.softmax(d.mixture(teachers, 2.0) / 2, 1)
    want = sum(F.softmax(t / 2, 1) for t in teachers) / 2
    torch.testing.assert_close(got, want)


def test_attention_sees_places_and_no_channels_nor_scale():
    x = torch.randn(2, 3, 4, 4)
    assert d.attention_transfer(x, 5 * x[:, [2, 0, 1]]).item() == pytest.approx(0, abs=1e-9)
    assert d.attention_transfer(x, x.flip(-1)).item() > 0.01


def test_relations_outlive_turns_and_scale():
    x = torch.randn(5, 8)
    turn = torch.linalg.qr(torch.randn(8, 8))[0]
    assert d.relational(3 * x @ turn, x).item() == pytest.approx(0, abs=1e-6)
    assert d.relational(x[:, :2], x).item() > 1e-3


def test_a_hint_is_relative_to_the_teachers_size():
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(d.hint(x, y), d.hint(100 * x, 100 * y))
