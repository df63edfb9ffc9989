import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spd_ray.base.errors import UserError
from spd_ray.config.execution import ResourcesConfig
from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import EngineConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig


def test_the_papers_rte_setting_in_steps():
    # 2,490 examples in batches of 32: 78 steps an epoch; 30, 10 and 20 epochs
    timeline = Timeline.of(MethodConfig(), train_examples=2490)
    assert (timeline.steps_per_epoch, timeline.t1, timeline.t2, timeline.t3) == (78, 2340, 3120, 4680)
    assert timeline.pruning_end_step == 2340
    assert timeline.pruning_events[0].step == 195
    assert len(timeline.pruning_events) == 12
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
        ({"trained": "all"}, "needs grafting: none"),
        ({"student": {"init": "pretrained"}}, "needs trained: all"),
        ({"ladder": [0.9]}, "below the sparsity at the end, 0.9"),
        ({"ladder": [0.8, 0.5]}, "ladder must rise"),
        ({"ladder": [0.1], "pruning_events": 1}, "1 events leave none"),
        ({"pruning": "soft_movement"}, "needs criterion.scope: global"),
        ({"pruning": "soft_movement", "criterion": {"scope": "global"}, "pattern": "4x4"}, "and pattern: single"),
        ({"pruning": "lottery", "regrowth": {"kind": "gradient"}}, "needs pruning by a criterion"),
        ({"first_event_share": 0.5, "pruning_schedule": "linear"}, "needs pruning_schedule: cubic"),
        ({"regrowth": {"kind": "partitions"}, "ladder": [0.5]}, "at its last event alone has no ladder"),
        ({"phases": [{"until": 0.5, "objective": {"attention_maps": "scores"}}]}, "same attention_maps"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValidationError) as refused:
        MethodConfig(**changes)
    assert words in str(refused.value)


def test_whole_gradients_are_refused_at_zero_3():
    for method in ({"pruning": "movement"}, {"pruning": "fisher"}, {"regrowth": {"kind": "exploration"}}):
        with pytest.raises(ValidationError, match=r"needs engine\.zero_stage 0 to 2"):
            TrialConfig(
                task=TaskConfig(name="rte"), model=ModelConfig(), teacher=TeacherConfig(), method=method,
                engine=EngineConfig(zero_stage=3),
            )  # fmt: skip


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


def test_one_decay_and_rounds_by_hand():
    # 4 steps an epoch; pruning after steps 4 and 8 of 16
    settings = dict(
        total_epochs=4, stage1_epochs=2, stage2_epochs=0, stage1_lr=1.0, stage23_lr=7.0, batch_size=2, pruning_events=2
    )  # fmt: skip
    one = Timeline.of(MethodConfig(**settings, lr_schedule="one_decay"), 8)
    assert [one.learning_rate(t) for t in (0, 4, 8, 15, 16)] == [1.0, 0.75, 0.5, 1 / 16, 0.0]
    rounds = Timeline.of(MethodConfig(**settings, lr_schedule="rounds"), 8)
    assert [rounds.learning_rate(t) for t in (0, 2, 4, 6, 8, 12, 15, 16)] == [1, 0.5, 1, 0.5, 1, 0.5, 0.125, 0]


def test_phases_and_constant_by_hand():
    # t3 = 16; the layer phase until 0.6 x 16 = 9.6 has the steps 0 to 9, then 6 steps of one decay
    layers = {"until": 0.6, "objective": {"prediction": 0}}
    settings = dict(total_epochs=4, stage1_epochs=2, stage2_epochs=0, stage1_lr=1.0, batch_size=2, phases=[layers])
    timeline = Timeline.of(MethodConfig(**settings, lr_schedule="phases"), 8)
    assert [timeline.learning_rate(t) for t in (0, 9, 10, 13, 15, 16)] == [
        1.0,
        1.0,
        1.0,
        0.5,
        pytest.approx(1 / 6),
        0.0,
    ]
    assert [timeline.phase_share(t) for t in (0, 3, 9)] == pytest.approx([0.0, 3 / 9.6, 9 / 9.6])
    assert [timeline.phase_share(t) for t in (10, 16)] == pytest.approx([0.4 / 6.4, 1.0])
    constant = Timeline.of(MethodConfig(**settings, lr_schedule="constant"), 8)
    assert {constant.learning_rate(t) for t in range(16)} == {1.0}


def test_a_ladder_stands_on_its_levels_and_is_scored_before_it_leaves_them():
    # 10 steps an epoch, 4 events after 10, 20, 30, 40 steps; cubic to 0.9: 0.520, 0.7875, 0.886, 0.9
    method = MethodConfig(
        total_epochs=8, stage1_epochs=4, stage2_epochs=0, batch_size=1, pruning_events=4, ladder=(0.5, 0.8),
        eval_every_epochs=100,
    )  # fmt: skip
    timeline = Timeline.of(method, 10)
    assert [event.rate for event in timeline.pruning_events] == pytest.approx([0.5, 0.7875, 0.8, 0.9])
    assert [timeline.level(t) for t in (9, 10, 19, 20, 30, 39, 40)] == [None, 0.5, 0.5, None, 0.8, 0.8, None]
    assert timeline.eval_steps == (19, 39, 40, 80)


def test_the_public_code_drops_its_last_event_where_the_division_is_exact():
    settings = dict(total_epochs=4, stage1_epochs=2, stage2_epochs=0, batch_size=1, drop_last_event=True)
    exact = Timeline.of(MethodConfig(**settings), 12)  # 24 steps, 12 events
    assert len(exact.pruning_events) == 11
    assert exact.final_sparsity == pytest.approx(0.9 * (1 - (1 / 12) ** 3)) == pytest.approx(0.8994792)
    inexact = Timeline.of(MethodConfig(**settings), 13)
    assert (len(inexact.pruning_events), inexact.final_sparsity) == (12, 0.9)


def test_phases_follow_one_another():
    first, then = (ObjectiveConfig(hidden=0, attention=0, prediction=0, task=t) for t in (1, 2))
    method = MethodConfig(
        total_epochs=4, stage1_epochs=2, stage2_epochs=0, batch_size=1, phases=({"until": 0.5, "objective": first},),
        objective=then,
    )  # fmt: skip
    timeline = Timeline.of(method, 5)
    assert [timeline.objective(t).task for t in (0, 9, 10, 19)] == [1, 1, 2, 2]


def test_without_pruning_every_student_is_feasible():
    timeline = Timeline.of(MethodConfig(pruning="none"), 100)
    assert timeline.pruning_events == ()
    assert timeline.pruning_rate(10**6) == timeline.final_sparsity == 0.0


@pytest.mark.parametrize(
    ("asked", "have", "slots"),
    [
        ({"gpus_per_worker": 0.1}, {"CPU": 16, "GPU": 1}, 10),  # 1 // 0.1 is 9
        ({"gpus_per_worker": 0.2}, {"CPU": 16, "GPU": 1}, 5),  # 1 // 0.2 is 4
        ({"gpus_per_worker": 0.3}, {"CPU": 16, "GPU": 1}, 3),
        ({"workers": 2, "gpus_per_worker": 1}, {"CPU": 16, "GPU": 3}, 1),
        ({"cpus_per_worker": 2}, {"CPU": 5}, 2),
        ({"gpus_per_worker": 1}, {"CPU": 5}, 0),
    ],
)
def test_slots_lose_no_trial_to_binary_fractions(asked, have, slots):
    assert ResourcesConfig(**asked).slots(have) == slots


def test_a_level_that_no_event_stops_at_is_refused():
    # 2 steps for 12 events: the last of each step counts, and neither is the level's
    method = MethodConfig(total_epochs=4, stage1_epochs=2, stage2_epochs=1, ladder=(0.5,), batch_size=32)
    with pytest.raises(UserError) as caught:
        Timeline.of(method, train_examples=32).check_ladder()
    assert str(caught.value) == (
        "method.ladder: no pruning event stops at 0.5, for 12 events do not fit into 2 steps; "
        "give fewer events or levels, or a longer stage1_epochs"
    )
    Timeline.of(method, train_examples=2490).check_ladder()
