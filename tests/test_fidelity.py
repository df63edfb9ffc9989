"""What the project says is the paper's, against the paper's own words and numbers (Huang et al., ACL 2022)."""

import pytest
import torch

from spd_ray.config.load import load_spec
from spd_ray.config.method import MethodConfig
from spd_ray.config.methods import load_method
from spd_ray.config.timeline import Timeline
from spd_ray.engine.engine import ProximalAdamW
from spd_ray.engine.optimizer import ReweightedNorm
from spd_ray.equations import losses
from spd_ray.model.surgery import MaskedLinear, share_of_zeros

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


def method_of(name: str) -> MethodConfig:
    return MethodConfig.model_validate({"name": name, **load_method(name).method})


@pytest.mark.parametrize("name", ["tinybert4", "tinybert6", "sparsebert", "cr_ild", "pkd", "distilbert"])
def test_methods_whose_code_divides_both_logits_by_the_temperature_do_so(name: str) -> None:
    """`soft_cross_entropy(student_logits / T, teacher_logits / T)` and the like in the public code of each."""
    assert method_of(name).objective.temperature_on == "both"


@pytest.mark.parametrize("name", ["tinybert4", "tinybert6"])
def test_tinyberts_rate_is_constant_in_the_layer_phase(name: str) -> None:
    """`schedule = 'none'` unless `pred_distill`, then `warmup_linear`, in its task_distill.py."""
    timeline = Timeline.of(method_of(name), MRPC)
    layers = [step for step in range(timeline.t3) if timeline.objective(step).hidden > 0]
    assert layers == list(range(round(0.6 * timeline.t3)))
    assert {timeline.learning_rate(step) for step in layers} == {3e-5}
    assert timeline.learning_rate(timeline.t3 - 1) < 1e-7


def test_sparseberts_rate_is_constant_for_its_one_phase_distils_layers() -> None:
    """Its task_distill_prune_simultaneously.py: `schedule = 'none'`, loss = rep + att + cls."""
    timeline = Timeline.of(method_of("sparsebert"), MRPC)
    assert {timeline.learning_rate(step) for step in range(timeline.t3)} == {3e-5}
    assert timeline.method.objective.weights().keys() == {"prediction", "embedding", "hidden", "attention"}


def test_cr_ild_is_its_published_code() -> None:
    """training_functions.py: Attention_KL, w_ic * epoch / num_train_epochs in the layer phase; DistillKL(T) * T^2."""
    method = method_of("cr_ild")
    (layers,) = method.phases
    assert layers.objective.weights() == {"hidden": 1.0, "attention_relation": 1.0, "consistency": 0.1}
    assert method.objective.temperature == 2
    timeline = Timeline.of(method, MRPC)
    end = timeline.t3 // 2
    assert [timeline.phase_share(step) for step in (0, end // 2, end - 1)] == pytest.approx([0, 0.5, 1], abs=1e-3)


def test_pkds_patience_is_weighed_as_beta_of_its_code() -> None:
    """patience_loss is F.mse_loss over (batch, 5 layers, 768); beta is searched in 10, 100, 500, 1,000 (Sun et al.)."""
    student, teacher = torch.randn(2, 4, 5, 3, 768)  # of 4 examples, 5 layers, 3 tokens
    first = [torch.nn.functional.normalize(states[:, :, 0], dim=-1) for states in (student, teacher)]
    mean = torch.nn.functional.mse_loss(*first)
    summed = sum(losses.first_token_loss(student[:, layer], teacher[:, layer]) for layer in range(5))
    searched = load_method("pkd").search["objective.first_token"]["choices"]
    for beta, weight in zip((10, 100, 500, 1_000), searched, strict=True):
        assert weight * summed == pytest.approx(beta * float(mean), rel=1e-5)
    assert method_of("pkd").objective.layers == "but_last"


def test_tickets_remove_the_same_share_of_all_weights_in_each_round() -> None:
    """Chen et al. 2020, Algorithm 1 of the code: `amount` of all weights a round."""
    assert method_of("tickets").model_copy(update={"target_sparsity": 0.8}).event_rates() == pytest.approx(
        [0.2, 0.4, 0.6, 0.8]
    )


def test_theseus_runs_the_teachers_layers_with_dropout() -> None:
    assert method_of("theseus").teacher_dropout == 0.1
    assert load_spec("search_spaces/compare_mini.yaml").method.teacher_dropout == 0  # the miniature has none anywhere


@pytest.mark.parametrize("rate", [3e-5, 3e-3])
@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_rpps_norm_zeroes_the_same_share_at_any_rate_and_scale(rate: float, scale: float) -> None:
    """Normal weights that nothing pulls back: at s = 0.5 those within sqrt(0.01 + 1) - 0.1 = 0.905 deviations."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(300, 300)
    torch.nn.init.normal_(linear.weight, std=scale)
    model = torch.nn.Sequential(MaskedLinear.of(linear))
    method = method_of("rpp").model_copy(update={"stage1_lr": rate, "stage1_epochs": 5.0, "stage2_epochs": 0.0})
    timeline = Timeline.of(method, MRPC)
    norm = ReweightedNorm.of(timeline, model)
    weight = model[0].weight
    optimizer = ProximalAdamW(
        [{"params": [weight], "l1": 0.0, "l1_floor": 1.0, "prunable": True}], lr=0.0, weight_decay=0
    )
    for step in range(timeline.pruning_end_step):
        (group,) = optimizer.param_groups
        group["lr"] = timeline.learning_rate(step)
        group["l1"], group["l1_floor"] = norm.at(step, timeline)
        optimizer.step()
    assert share_of_zeros(model) == pytest.approx(0.635, abs=0.01)  # of a normal distribution
    assert norm.at(timeline.pruning_end_step, timeline).strength == 0
