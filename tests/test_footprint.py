"""What a trial takes: worked by hand, and beside the files that a trial writes."""

import itertools

import pytest

from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.engine.engine import release
from spd_ray.engine.engine_state import copy_state
from spd_ray.training.checkpoint import export_student
from spd_ray.training.trainer import prepare, train_spd
from spd_ray.trials.footprint import bytes_a_parameter, footprint


@pytest.mark.parametrize(
    ("precision", "stage", "ranks", "expected"),
    [
        ("fp32", 0, 1, 4 + 1 + 8 + 4),  # weights, masks, moments, gradients
        ("fp32", 0, 2, 4 + 1 + 8 + 4 + 4),  # and the copy that is reduced
        ("fp16", 0, 1, 2 + 2 + 1 + 4 + 8 + 2 + 4),  # and teacher layers, masters, the step's gradients in fp32
        ("fp16", 1, 1, 2 + 2 + 1 + 4 + 8 + 2 + 4),
        ("bf16", 1, 4, 2 + 2 + 1 + (4 + 8 + 2) / 4 + 2 + 2 * 0.25),  # a bucket of 2^24 of 2^26 elements
    ],
)
def test_bytes_of_a_trained_parameter(precision, stage, ranks, expected):
    engine = EngineConfig.model_validate({"precision": precision, "zero_stage": stage})
    assert bytes_a_parameter(2**26, engine, ranks) == expected


@pytest.mark.parametrize("pruning", ["magnitude", "platon"])
def test_states_and_students_are_as_large_as_said(tiny_teacher, tmp_path, pruning):
    task, model, settings = tiny_teacher.configs
    method = MethodConfig(batch_size=8, p0=0.5, pruning=pruning)
    run = prepare(TrialConfig(task=task, model=model, teacher=settings, method=method), tiny_teacher.teacher)
    next(itertools.islice(train_spd(run), 1, None))
    said = footprint(run, ranks=1)
    (tmp_path / "state").mkdir()
    copy_state(run.engine).write(tmp_path / "state")
    export_student(run, tmp_path / "student")
    release(run.engine)
    state = sum(file.stat().st_size for file in (tmp_path / "state").rglob("*") if file.is_file())
    student = (tmp_path / "student" / "model.safetensors").stat().st_size
    assert said.state == pytest.approx(state, rel=0.1)
    assert said.student == pytest.approx(student, rel=0.1)
    assert said.outputs == run.teacher_outputs.nbytes > 0
