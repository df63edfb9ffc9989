import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spd_ray.config import MethodConfig, ObjectiveConfig, Timeline


def test_the_papers_rte_setting_in_steps():
    # 2,490 examples in batches of 32: 78 steps an epoch; 30, 10 and 20 epochs
    timeline = Timeline.of(MethodConfig(), train_examples=2490)
    assert (timeline.steps_per_epoch, timeline.t1, timeline.t2, timeline.t3) == (78, 2340, 3120, 4680)
    assert timeline.pruning_end_step == 2340
    assert timeline.pruning_steps[0] == 195
    assert len(timeline.pruning_steps) == 12
    assert timeline.pruning_rate(2339) < 0.9 == timeline.pruning_rate(2340)
    assert timeline.replacing_probability(2730) == pytest.approx(0.8)
    assert [timeline.stage(t) for t in (0, 2339, 2340, 3119, 3120, 4679, 4680)] == [1, 1, 2, 2, 3, 3, 3]
    assert len(timeline.eval_steps) == 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage1_epochs": 50, "stage2_epochs": 11}, "50 + 11 > 60"),
        ({"pruning_end": 1.5}, "pruning_end <= 1.33333"),
        ({"p0": 1.1}, "less than or equal to 1"),
        ({"target_sparsity": 1.0}, "less than 1"),
        ({"stage1_lr": float("nan")}, "finite"),
        ({"learning_rate": 1e-3}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValidationError) as refused:
        MethodConfig(**changes)
    assert words in str(refused.value)


def test_an_objective_without_terms_is_refused():
    with pytest.raises(ValidationError):
        ObjectiveConfig(hidden=0, attention=0, prediction=0)
    assert not ObjectiveConfig(hidden=0, attention=0, prediction=0, task=1).distils


@given(
    examples=st.integers(1, 5000),
    batch=st.integers(1, 64),
    stages=st.tuples(st.floats(0.1, 20), st.floats(0, 20), st.floats(0, 20)),
    end_share=st.floats(0.01, 1),
)
def test_timelines_are_ordered(examples, batch, stages, end_share):
    stage1, stage2, stage3 = stages
    method = MethodConfig(
        total_epochs=stage1 + stage2 + stage3,
        stage1_epochs=stage1,
        stage2_epochs=stage2,
        pruning_end=end_share * (stage1 + stage2) / stage1,
        batch_size=batch,
    )
    timeline = Timeline.of(method, examples)
    assert 1 <= timeline.pruning_end_step <= timeline.t2
    assert 1 <= timeline.t1 <= timeline.t2 <= timeline.t3
    assert timeline.eval_steps[-1] == timeline.t3
    assert timeline.eval_steps[0] >= 1
    assert {timeline.t1, timeline.t2, timeline.pruning_end_step} <= set(timeline.eval_steps)
