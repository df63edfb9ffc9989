"""Grafting and masking on stock encoders of random weights, found by structure."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from spd_ray.base.errors import UserError
from spd_ray.config.method import StudentConfig
from spd_ray.equations.masks import zeros_asked
from spd_ray.model import surgery

INPUTS = {
    "input_ids": torch.tensor([[2, 11, 12, 13, 3], [2, 14, 3, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
REAL = INPUTS["attention_mask"].bool()
SHAPE = dict(vocab_size=30, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)
SMALL = dict(dim=16, n_layers=4, n_heads=2, hidden_dim=32)
TOKENS = dict(pad_token_id=1, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3)
ENCODERS = {
    "bert": BertConfig(**SHAPE, initializer_range=0.3),
    "roberta": RobertaConfig(**SHAPE, initializer_range=0.3),
    "distilbert": DistilBertConfig(vocab_size=30, **SMALL, initializer_range=0.3),
    "electra": ElectraConfig(**SHAPE, embedding_size=8, initializer_range=0.3),
    "modernbert": ModernBertConfig(**SHAPE, initializer_range=0.3, local_attention=2, **TOKENS),
}
MATRICES = dict.fromkeys(ENCODERS, 6) | {"modernbert": 4}  # query, key and value are one matrix there
ALL = StudentConfig()
HALF = StudentConfig(depth=0.5)


def encoder(name):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(ENCODERS[name], attn_implementation="eager").eval()


@pytest.fixture(params=ENCODERS)
def any_teacher(request):
    return encoder(request.param)


@pytest.fixture
def teacher():
    return encoder("bert")


def grafted_from(teacher, student=ALL, **changes):
    settings = {"attention_maps": "probabilities", "dropout": 0.0, **changes}
    return surgery.graft(teacher, student, settings.pop("attention_maps"), **settings)


@pytest.fixture
def grafted(teacher):
    return grafted_from(teacher)


def disturb(model):
    for name, parameter in model.named_parameters():
        if ".student." in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.2)


def logits_of(model, draw):
    layers = surgery.grafted_layers(model)
    surgery.set_draw(layers, draw)
    return surgery.run_model(model, layers, INPUTS).logits


def reloaded(model, student):
    """The extracted student as a stock model of its own configuration."""
    stock = AutoModelForSequenceClassification.from_config(surgery.student_config(model, student))
    stock.load_state_dict(surgery.extract_student(model))
    return stock.eval()


def test_every_draw_equals_the_teacher_before_training(any_teacher):
    expected = any_teacher(**INPUTS).logits
    model = grafted_from(any_teacher)
    for draw in ((True,) * 4, (False,) * 4, (False, True, False, True)):
        assert torch.allclose(logits_of(model, draw), expected, atol=1e-6)


def test_prunable_are_the_linear_layers_of_the_encoder_in_any_encoder(any_teacher):
    model = grafted_from(any_teacher)
    names = [name for name, _ in surgery.masked_linears(model)]
    assert len(names) == 4 * MATRICES[any_teacher.config.model_type]
    assert not any("embedding" in name or "classifier" in name or "pooler" in name for name in names)


@pytest.mark.parametrize("pick", ["first", "spaced"])
def test_a_student_of_half_the_layers_is_a_stock_model(any_teacher, pick):
    if any_teacher.config.model_type == "modernbert":
        with pytest.raises(UserError, match="alternates full_attention and sliding_attention"):
            grafted_from(any_teacher, HALF)
        return
    student = StudentConfig(depth=0.5, pick=pick)
    model = grafted_from(any_teacher, student)
    disturb(model)
    surgery.prune(model, 0.5)
    stock = reloaded(model, student)
    assert stock.config.num_hidden_layers == 2
    assert torch.allclose(stock(**INPUTS).logits, logits_of(model, (True, True)), atol=1e-5)
    assert torch.allclose(logits_of(model, (False, False)), any_teacher(**INPUTS).logits, atol=1e-6)


def test_attention_maps_and_hidden_states_are_those_of_the_eager_model(any_teacher):
    model = grafted_from(any_teacher)
    layers = surgery.grafted_layers(model)
    surgery.set_draw(layers, (True,) * 4)
    ours = surgery.run_model(model, layers, INPUTS)
    eager = any_teacher(**INPUTS, output_hidden_states=True, output_attentions=True)
    for layer, hidden, maps in zip(ours.layers, eager.hidden_states[1:], eager.attentions, strict=True):
        assert torch.allclose(layer.attention[0], maps[0], atol=1e-6)
        if hidden is not eager.hidden_states[-1]:  # ModernBERT's last one is behind a norm
            assert torch.allclose(layer.hidden[REAL], hidden[REAL], atol=1e-5)
    assert torch.allclose(ours.embeddings[REAL], eager.hidden_states[0][REAL], atol=1e-6)


def test_eq_1_takes_the_layer_that_the_draw_names(teacher, grafted):
    disturb(grafted)
    layers = surgery.grafted_layers(grafted)
    mixed = copy.deepcopy(teacher)
    for index in (0, 2):
        mixed.bert.encoder.layer[index].load_state_dict(
            {n: t for n, t in layers[index].student.state_dict().items() if not n.endswith("mask")}
        )
    assert torch.allclose(logits_of(grafted, (True, False, True, False)), mixed(**INPUTS).logits, atol=1e-6)
    assert torch.equal(logits_of(grafted, (False,) * 4), teacher(**INPUTS).logits)


def test_a_student_layer_stands_for_a_block_of_teacher_layers(teacher):
    model = grafted_from(teacher, HALF)
    disturb(model)
    layers = surgery.grafted_layers(model)
    hidden = teacher(**INPUTS, output_hidden_states=True).hidden_states
    surgery.set_draw(layers, (False, True))
    outputs = surgery.run_model(model, layers, INPUTS)
    assert torch.allclose(outputs.layers[0].hidden[REAL], hidden[2][REAL], atol=1e-6)
    assert not torch.allclose(outputs.layers[1].hidden[REAL], hidden[4][REAL], atol=1e-2)


def test_known_outputs_of_leading_layers_change_nothing(grafted):
    disturb(grafted)
    layers = surgery.grafted_layers(grafted)
    surgery.set_draw(layers, (False,) * 4)
    teacher = surgery.run_model(grafted, layers, INPUTS)
    draw = (False, False, True, False)
    surgery.set_draw(layers, draw)
    computed = surgery.run_model(grafted, layers, INPUTS)
    surgery.set_draw(layers, draw, known=[layer.hidden for layer in teacher.layers])
    reused = surgery.run_model(grafted, layers, INPUTS)
    assert surgery.leading_teachers(draw) == 2
    assert torch.equal(reused.logits, computed.logits)
    assert reused.layers[:2] == (None, None)
    for ours, theirs in zip(reused.layers[2:], computed.layers[2:], strict=True):
        assert torch.equal(ours.hidden, theirs.hidden)
        assert torch.equal(ours.attention, theirs.attention)


@pytest.mark.parametrize("kind", ["probabilities", "scores", "dropped"])
def test_attention_maps_are_before_dropout_unless_asked_for(teacher, kind):
    model = grafted_from(teacher, attention_maps=kind, dropout=0.5)
    surgery.set_training(surgery.student_modules(model, "layers"), True)
    layers = surgery.grafted_layers(model)
    surgery.set_draw(layers, (True,) * 4)
    torch.manual_seed(1)
    maps = surgery.run_model(model, layers, INPUTS).layers[0].attention
    eager = teacher(**INPUTS, output_attentions=True).attentions[0]
    if kind == "scores":
        maps = torch.softmax(maps.masked_fill(~REAL[:, None, None, :], float("-inf")), dim=-1)
    if kind == "dropped":
        kept = maps != 0
        assert 0 < (~kept & (eager > 0)).sum() < kept.numel()
        assert torch.allclose(maps[kept], 2 * eager[kept], atol=1e-6)
    else:
        assert torch.allclose(maps, eager, atol=1e-6)


def test_what_is_trained_has_dropout(grafted):
    surgery.set_training(surgery.student_modules(grafted, "layers"), True)
    training = {name for name, module in grafted.named_modules() if module.training}
    assert training
    assert all(".student" in name for name in training)
    surgery.set_training(surgery.student_modules(grafted, "all"), True)
    assert grafted.dropout.training
    assert not any(module.training for module in surgery.teacher_modules(grafted))


def test_a_source_gives_the_student_everything_and_keeps_no_teacher(teacher):
    source = encoder("bert")
    source.bert.embeddings.word_embeddings.weight.data.mul_(2)
    model = grafted_from(teacher, HALF, source=source)
    assert surgery.teacher_modules(model) == [layer.teacher for layer in surgery.grafted_layers(model)]
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, source.bert.embeddings.word_embeddings.weight)
    alone = surgery.teacher_in_blocks(teacher, HALF, "scores")
    assert torch.allclose(logits_of(alone, (False, False)), teacher(**INPUTS).logits, atol=1e-6)
    assert list(surgery.masked_linears(alone)) == []


def test_pruned_weights_get_no_gradient_and_the_others_do(grafted):
    surgery.prune(grafted, 0.75)
    for name, parameter in grafted.named_parameters():
        parameter.requires_grad_(".student." in name)
    logits_of(grafted, (True,) * 4).square().sum().backward()
    for _, linear in surgery.masked_linears(grafted):
        assert torch.all(linear.weight.grad[~linear.mask] == 0)
    assert any(linear.weight.grad[linear.mask].abs().sum() > 0 for _, linear in surgery.masked_linears(grafted))


def test_pruning_takes_the_same_share_of_the_six_matrices_of_each_layer(grafted):
    surgery.prune(grafted, 0.7)
    masks = [linear.mask for _, linear in surgery.masked_linears(grafted)]
    assert len(masks) == 4 * 6
    assert all(int((~mask).sum()) == zeros_asked(mask.numel(), 0.7) for mask in masks)
    assert surgery.sparsity(grafted) == pytest.approx(0.7, abs=2e-3)


def test_global_pruning_ranks_all_weights_together(grafted):
    first = next(linear for _, linear in surgery.masked_linears(grafted))
    first.weight.data.mul_(100)
    surgery.prune(grafted, 0.7, globally=True)
    masks = [linear.mask for _, linear in surgery.masked_linears(grafted)]
    assert first.mask.float().mean() > 0.9
    assert sum(int((~mask).sum()) for mask in masks) == zeros_asked(sum(mask.numel() for mask in masks), 0.7)


def test_what_remains_is_counted_as_the_paper_counts_it(teacher):
    model = grafted_from(teacher, HALF)
    surgery.prune(model, 0.5)
    # a layer: 4 x 16 x 16 + 2 x 16 x 32 = 2,048 weights, 4 x 16 + 32 + 16 biases and 4 x 16 of LayerNorm = 176
    around = sum(p.numel() for n, p in teacher.named_parameters() if "encoder.layer" not in n)
    assert surgery.remaining_parameters(model) == (2 * (1024 + 176), around + 2 * (1024 + 176))


def test_the_extracted_student_is_a_stock_model_with_zeros(grafted):
    disturb(grafted)
    surgery.prune(grafted, 0.5)
    student = reloaded(grafted, ALL)
    assert torch.allclose(student(**INPUTS).logits, logits_of(grafted, (True,) * 4), atol=1e-6)
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
