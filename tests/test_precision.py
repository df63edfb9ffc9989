"""The arithmetic of products: what the keys set, what they leave as it was, and that teachers differ by them."""

import pytest
import torch

from spd_ray.config.method import MethodConfig
from spd_ray.config.trial import EngineConfig, TeacherConfig, TrialConfig
from spd_ray.engine.engine import release
from spd_ray.engine.precision import products_in, set_tf32
from spd_ray.training import teacher as teachers
from spd_ray.training.fine_tuning import fine_tune
from spd_ray.training.teacher import load_teacher
from spd_ray.training.trainer import prepare


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.backends.cuda.matmul.fp32_precision
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize(
    ("precision", "of_fp32", "computed"),
    [("fp32", "ieee", torch.float32), ("tf32", "tf32", torch.float32), ("bf16", "ieee", torch.bfloat16)],
)
def test_products_are_as_asked_and_afterwards_as_before(precision, of_fp32, computed):
    set_tf32(precision != "tf32")
    before = torch.backends.cuda.matmul.fp32_precision
    with products_in(precision, "cpu"):
        assert torch.backends.cuda.matmul.fp32_precision == of_fp32
        assert torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == computed
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == torch.float32


def test_a_trial_sets_its_own_whatever_the_one_before_had(tiny_teacher):
    task, model, settings = tiny_teacher.configs
    for tf32, expected in ((True, "tf32"), (False, "ieee"), (True, "tf32")):
        method = MethodConfig(batch_size=8, p0=0.5)
        engine = EngineConfig(tf32=tf32)
        run = prepare(
            TrialConfig(task=task, model=model, teacher=settings, method=method, engine=engine), tiny_teacher.teacher
        )
        assert torch.backends.cuda.matmul.fp32_precision == expected
        release(run.engine)


def test_a_teacher_of_another_precision_is_another_teacher(tiny_teacher):
    task, model, settings = tiny_teacher.configs
    folders = {load_teacher(task, model, settings.model_copy(update={"precision": p})).folder for p in ("fp32", "bf16")}
    assert len(folders) == 2


def test_the_precision_decides_bits_but_not_what_is_learnt(tiny_teacher):
    """On a CPU: bf16 differs, tf32 is fp32; weights stay fp32."""
    data, folder = tiny_teacher.teacher.data, teachers.resolve_model(tiny_teacher.configs[1])
    tuned = {}
    for precision in ("fp32", "tf32", "bf16"):
        config = TeacherConfig(epochs=6, batch_size=8, precision=precision)
        tuned[precision] = fine_tune(folder, data, config, 2e-3, lambda steps=1, note="": None)
    weights = {name: model.classifier.weight for name, model in tuned.items()}
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert torch.equal(weights["fp32"], weights["tf32"])
    assert not torch.equal(weights["fp32"], weights["bf16"])
    scores = {name: teachers.evaluate(model, data.dev, data.task).score for name, model in tuned.items()}
    assert abs(scores["bf16"] - scores["fp32"]) < 0.1
