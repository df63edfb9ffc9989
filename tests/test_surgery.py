"""Grafting and masking on a stock BERT of random weights."""

import copy

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from spd_ray import surgery
from spd_ray.masks import zeros_asked

INPUTS = {
    "input_ids": torch.tensor([[2, 11, 12, 13, 3], [2, 14, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
MAPS = {"output_hidden_states": True, "output_attentions": True}


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


@pytest.fixture
def grafted(teacher):
    return surgery.graft(teacher, dropout=0.0, attention_maps="probabilities")


def disturb(model):
    for name, parameter in model.named_parameters():
        if ".student." in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.2)


def test_every_draw_equals_the_teacher_before_training(teacher, grafted):
    expected = teacher(**INPUTS).logits
    layers = surgery.grafted_layers(grafted)
    for draw in ((True,) * 3, (False,) * 3, (False, True, False)):
        surgery.set_draw(layers, draw)
        assert torch.equal(grafted(**INPUTS).logits, expected)


def test_eq_1_takes_the_layer_that_the_draw_names(teacher, grafted):
    disturb(grafted)
    layers = surgery.grafted_layers(grafted)
    mixed = copy.deepcopy(teacher)
    for index in (0, 2):
        mixed.bert.encoder.layer[index].load_state_dict(
            {n: t for n, t in layers[index].student.state_dict().items() if not n.endswith("mask")}
        )
    surgery.set_draw(layers, (True, False, True))
    assert torch.allclose(grafted(**INPUTS).logits, mixed(**INPUTS).logits, atol=1e-6)
    surgery.set_draw(layers, (False,) * 3)
    assert torch.equal(grafted(**INPUTS).logits, teacher(**INPUTS).logits)


def test_known_outputs_of_leading_layers_change_nothing(grafted):
    disturb(grafted)
    layers = surgery.grafted_layers(grafted)
    surgery.set_draw(layers, (False,) * 3)
    teacher_outputs = grafted(**INPUTS, **MAPS)
    draw = (False, False, True)
    surgery.set_draw(layers, draw)
    computed = grafted(**INPUTS, **MAPS)
    surgery.set_draw(layers, draw, known=teacher_outputs.hidden_states[1:])
    reused = grafted(**INPUTS, **MAPS)
    assert surgery.leading_teachers(draw) == 2
    assert torch.equal(reused.logits, computed.logits)
    assert len(reused.attentions) == 1
    assert torch.equal(reused.attentions[0], computed.attentions[2])
    assert torch.equal(reused.hidden_states[1], computed.hidden_states[3])


@pytest.mark.parametrize("kind", ["probabilities", "scores"])
def test_attention_maps_are_those_of_the_eager_model(teacher, kind):
    grafted = surgery.graft(teacher, dropout=0.5, attention_maps=kind)
    surgery.train_students(surgery.grafted_layers(grafted), True)
    maps = grafted(**INPUTS, **MAPS).attentions[0]  # of the first layer, before dropout
    eager = teacher(**INPUTS, **MAPS).attentions[0]
    if kind == "scores":
        mask = INPUTS["attention_mask"].bool()[:, None, None, :]
        maps = torch.softmax(maps.masked_fill(~mask, float("-inf")), dim=-1)
    assert torch.allclose(maps, eager, atol=1e-6)


def test_only_student_layers_are_trained_and_have_dropout(grafted):
    trained = {name for name, parameter in grafted.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in grafted.named_parameters() if ".student." in name}
    surgery.train_students(surgery.grafted_layers(grafted), True)
    training = {name for name, module in grafted.named_modules() if module.training}
    assert training
    assert all(".student" in name for name in training)


def test_pruned_weights_get_no_gradient_and_the_others_do(grafted):
    surgery.prune(grafted, 0.75)
    surgery.set_draw(surgery.grafted_layers(grafted), (True,) * 3)
    grafted(**INPUTS).logits.square().sum().backward()
    for _, linear in surgery.masked_linears(grafted):
        assert torch.all(linear.weight.grad[~linear.mask] == 0)
    assert any(linear.weight.grad[linear.mask].abs().sum() > 0 for _, linear in surgery.masked_linears(grafted))


def test_pruning_takes_the_same_share_of_the_six_matrices_of_each_layer(grafted):
    surgery.prune(grafted, 0.7)
    masks = [linear.mask for _, linear in surgery.masked_linears(grafted)]
    assert len(masks) == 3 * 6
    assert all(int((~mask).sum()) == zeros_asked(mask.numel(), 0.7) for mask in masks)
    assert surgery.sparsity(grafted) == pytest.approx(0.7, abs=2e-3)


def test_the_extracted_student_is_a_stock_model_with_zeros(teacher, grafted):
    disturb(grafted)
    surgery.prune(grafted, 0.5)
    surgery.set_draw(surgery.grafted_layers(grafted), (True,) * 3)
    expected = grafted(**INPUTS).logits
    student = copy.deepcopy(teacher)
    student.load_state_dict(surgery.extract_student(grafted))
    assert torch.allclose(student(**INPUTS).logits, expected, atol=1e-6)
    zeros = int((student.bert.encoder.layer[1].intermediate.dense.weight == 0).sum())
    assert zeros == zeros_asked(16 * 32, 0.5)


def test_a_kept_weight_that_fp16_rounds_to_zero_is_no_zero_on_disk(grafted):
    grafted.half()
    _, linear = next(surgery.masked_linears(grafted))
    linear.weight.data[0, 0] = 1e-9  # 0.0 in fp16
    state = surgery.extract_student(grafted)
    weight = state["bert.encoder.layer.0.attention.self.query.weight"]
    assert weight.dtype == torch.float32
    assert 0 < weight[0, 0].item() < 1e-7


def test_an_encoder_without_its_list_of_layers_is_refused(teacher):
    teacher.config.num_hidden_layers = 5
    with pytest.raises(ValueError, match="expected one list of 5 equal layers, found 0"):
        surgery.encoder_layers(teacher)
