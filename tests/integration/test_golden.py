"""A loss curve that a change for speed must reproduce: tests/integration/golden_curve.json, of a short SPD trial.

To make it anew, after a change that is meant to change results, remove the file and run the test: it writes it.
"""

import json
from pathlib import Path

import pytest

from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.config.trial import EngineConfig, TrialConfig
from spd_ray.kernels import build
from spd_ray.model.surgery import masked_linears
from spd_ray.training.trainer import prepare, train_spd

CURVE = Path(__file__).with_name("golden_curve.json")
# with the labels: a student that starts as its teacher has gradients of rounding noise, and AdamW steps along them
METHOD = MethodConfig(
    total_epochs=6, stage1_epochs=3, stage2_epochs=1, stage1_lr=2e-3, stage23_lr=1e-3, batch_size=8, p0=0.5,
    target_sparsity=0.5, pruning_events=3, dropout=0.0, eval_every_epochs=3,
    objective=ObjectiveConfig(task=1.0, cosine=1.0),
)  # fmt: skip
OF_DENSE = 1e-4  # the kernels' own: other orders of sums, GELU to 1e-6
TOLERANCE = 1e-3  # other CPUs, other orders of sums: the teacher itself is trained on the spot


def curve(tiny_teacher, sparse_from=None, **engine):
    """Step, draw and loss of every training step; matrices are sparse from `sparse_from` on."""
    task, model, teacher = tiny_teacher.configs
    settings = EngineConfig(sparse_kernels="never", **engine)
    run = prepare(
        TrialConfig(task=task, model=model, teacher=teacher, method=METHOD, engine=settings, seed=3),
        tiny_teacher.teacher,
    )
    for _, linear in masked_linears(run.model):
        linear.sparse_from = sparse_from
    found = [[record.step, record.draw, record.value] for record in train_spd(run) if record.split == "batch"]
    assert {linear.kept is not None for _, linear in masked_linears(run.model)} == {sparse_from is not None}
    return found


def check(found):
    golden = json.loads(CURVE.read_text())
    assert [(step, draw) for step, draw, _ in found] == [(step, draw) for step, draw, _ in golden]
    assert [value for *_, value in found] == pytest.approx([value for *_, value in golden], rel=TOLERANCE, abs=1e-4)


@pytest.mark.parametrize("engine", [{}, {"zero_stage": 2}, {"gradient_accumulation_steps": 2}], ids=str)
def test_the_curve_is_the_golden_one(tiny_teacher, engine):
    found = curve(tiny_teacher, **engine)
    if not CURVE.exists():
        CURVE.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")
        pytest.fail(f"{CURVE} was not there and is written now: look at it, and commit it")
    check(found)


@pytest.mark.skipif(not build.available(), reason=str(build.unavailable_because()))
@pytest.mark.parametrize("engine", [{}, {"zero_stage": 2}], ids=str)
def test_sparse_kernels_follow_the_golden_curve(tiny_teacher, engine):
    found = curve(tiny_teacher, sparse_from=0.1, **engine)
    check(found)
    dense = curve(tiny_teacher, **engine)
    assert [value for *_, value in found] == pytest.approx([value for *_, value in dense], rel=OF_DENSE)
    assert found != dense
