"""What the project says is the paper's, against the paper's own words and numbers (Huang et al., ACL 2022)."""

import pytest

from spd_ray.config.load import load_spec
from spd_ray.config.timeline import Timeline

MRPC = 3_668  # training examples


@pytest.mark.parametrize(("space", "distils"), [("fig02", True), ("fig02_without_kd", False)])
def test_figure_2_prunes_in_the_first_1000_steps_of_fine_tuning_and_keeps_kd(space: str, distils: bool) -> None:
    """Its caption: "iterative magnitude pruning ... during the first 1000 steps and keep knowledge distillation"."""
    spec = load_spec(f"search_spaces/paper/{space}.yaml")
    timeline = Timeline.of(spec.method, MRPC)
    assert timeline.pruning_events[-1].step == 1_000
    assert spec.method.student.init == "pretrained"  # "at the fine-tuning stage"
    assert spec.method.objective.distils is distils
    assert timeline.objective(0) == timeline.objective(timeline.t3 - 1)  # "through the whole training process"
