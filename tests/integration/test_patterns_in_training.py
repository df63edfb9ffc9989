"""Students whose zeros have a pattern: trained, read back, and in torch's format for 2:4."""

import pytest
import torch
from torch import nn
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

import spd_ray
from spd_ray.base.errors import UserError
from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import TrialConfig
from spd_ray.kernels.semi_structured import to_semi_structured, two_of_four
from spd_ray.model import surgery
from spd_ray.training.checkpoint import count_zeros, export_student, load_checkpoint, verify_checkpoint
from spd_ray.training.trainer import prepare, train_spd

BUDGET = dict(
    total_epochs=3, stage1_epochs=1, stage2_epochs=1, stage1_lr=2e-3, batch_size=8, pruning_events=3,
    eval_every_epochs=9, dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def student_of(tiny_teacher, tmp_path_factory):
    """A trained student of a pattern, its folder and its run."""
    students = {}

    def train(pattern: str, **changes):
        if (pattern, *changes.items()) not in students:
            task, model, teacher = tiny_teacher.configs
            method = MethodConfig(**{**BUDGET, "pattern": pattern, "target_sparsity": 0.5, **changes})
            run = prepare(TrialConfig(task=task, model=model, teacher=teacher, method=method), tiny_teacher.teacher)
            list(train_spd(run))
            folder = tmp_path_factory.mktemp("students") / "student"
            export_student(run, folder)
            students[pattern, *changes.items()] = run, folder
        return students[pattern, *changes.items()]

    return train


@pytest.mark.parametrize(
    ("pattern", "changes", "zeros"),
    [
        ("2:4", {}, 8192),
        ("2:4", {"pruning": "movement"}, 8192),
        ("4:8", {"pruning": "global_magnitude"}, 8192),
        # in each of 2 layers 4 matrices of 64 blocks and 2 of 128: round(0.9 x 64) = 58, round(0.9 x 128) = 115
        ("4x4", {"target_sparsity": 0.9}, 2 * 16 * (4 * 58 + 2 * 115)),
        ("2x8", {"target_sparsity": 0.75, "pruning": "global_magnitude"}, 12288),
    ],
)
def test_a_student_has_the_pattern_and_is_read_back_with_it(student_of, pattern, changes, zeros):
    run, folder = student_of(pattern, **changes)
    method, teacher = run.config.method, run.teacher
    assert sum(one.zeros for one in count_zeros(load_checkpoint(folder))) == zeros
    per_matrix = not method.prunes_globally
    found = verify_checkpoint(folder, method.target_sparsity, per_matrix, teacher, method.zeros)
    assert found.sparsity == zeros / 16384
    assert all(method.zeros.holds(linear.mask) for _, linear in surgery.masked_linears(run.model))


def test_zeros_elsewhere_are_refused_when_a_student_is_read_back(student_of):
    run, folder = student_of("4x4", target_sparsity=0.5)
    with pytest.raises(ValueError, match=r"the zeros of 0\..* are not where the pattern wants them"):
        verify_checkpoint(folder, 0.5, True, run.teacher, MethodConfig(pattern="2:4", target_sparsity=0.5).zeros)


def test_a_matrix_that_the_pattern_does_not_divide_is_named(student_of):
    run, _ = student_of("2:4")
    with pytest.raises(UserError) as caught:
        surgery.check_pattern(run.model, MethodConfig(pattern="5x4").zeros, "5x4")
    assert str(caught.value).startswith("method.pattern: 5x4 does not divide bert.encoder.layer.0.student.")
    assert str(caught.value).endswith(" of 32 x 32: rows must be a multiple of 5, columns of 4")


def test_2_of_4_in_torchs_format_is_the_same_matrix_in_half_the_numbers(student_of):
    model = load_checkpoint(student_of("2:4")[1])
    matrices = two_of_four(model)
    assert len(matrices) == 12
    assert all(".encoder." in name for name in matrices)
    for linear in matrices.values():
        dense = linear.weight.detach().half()
        values, positions = sparse_semi_structured_from_dense_cutlass(dense)
        assert values.shape == (dense.shape[0], dense.shape[1] // 2)
        assert positions.numel() * positions.itemsize * 8 == 2 * values.numel()  # two bits a kept weight
        assert torch.equal(sparse_semi_structured_to_dense_cutlass(values, positions), dense)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a GPU")
def test_without_a_gpu_or_without_the_pattern_it_is_one_line(student_of):
    with pytest.raises(UserError, match=r"2:4 matrices want an NVIDIA GPU of compute capability 8\.0 or newer"):
        spd_ray.load_semi_structured(student_of("2:4")[1])
    with pytest.raises(UserError, match=r'no matrix of this student is 2:4: method\.pattern: "2:4" makes'):
        to_semi_structured(nn.Linear(8, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with sparse tensor cores")
def test_on_a_gpu_it_answers_as_the_dense_student(student_of):
    folder = student_of("2:4")[1]
    inputs = {"input_ids": torch.randint(5, 15, (4, 16)).cuda()}
    expected = load_checkpoint(folder).cuda().half()(**inputs).logits
    assert torch.allclose(spd_ray.load_semi_structured(folder)(**inputs).logits, expected, rtol=1e-2, atol=1e-2)
