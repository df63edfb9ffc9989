"""Which models fit the method, tried on tiny random ones of many kinds: what is refused is refused in one line."""

import pickle
import shutil

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
    XLNetConfig,
)

from spd_ray.base.errors import UserError
from spd_ray.checks import room
from spd_ray.checks.cost import teacher_step
from spd_ray.checks.finding import OK, WARNING
from spd_ray.checks.model_fit import check_model, points_of
from spd_ray.checks.untrained import load_untrained
from spd_ray.config.load import load_spec
from spd_ray.model import attention
from tests.conftest import SPECIAL, WORDS

HAVE = {"CPU": 2.0, "GPU": 0.0}
VOCABULARY = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
SIZES = dict(vocab_size=15, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
SHAPE = SIZES | dict(max_position_embeddings=40, pad_token_id=0)
TOKENS = dict(bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3)
DISTIL = dict(vocab_size=15, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40)
FIT = {
    "bert": BertConfig(**SHAPE),
    "roberta": RobertaConfig(**SHAPE | TOKENS, type_vocab_size=2),
    "distilbert": DistilBertConfig(**DISTIL),
    "modernbert": ModernBertConfig(**SHAPE | TOKENS),
}
UNFIT = {
    "albert": (AlbertConfig(**SHAPE, embedding_size=8), "AlbertForSequenceClassification cannot be grafted"),
    "deberta": (DebertaV2Config(**SHAPE), "DebertaV2ForSequenceClassification cannot be grafted"),
    "mpnet": (MPNetConfig(**SHAPE), "MPNetForSequenceClassification cannot be grafted"),
    "gpt2": (
        GPT2Config(vocab_size=15, n_embd=16, n_layer=2, n_head=2, n_positions=40, pad_token_id=0),
        "GPT2ForSequenceClassification cannot be grafted (layer 0 has no nn.Linear matrix to prune)",
    ),
    "t5": (T5Config(vocab_size=15, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2), "T5"),
    "xlnet": (
        XLNetConfig(vocab_size=15, d_model=16, n_layer=2, n_head=2, d_inner=32),
        "XLNetForSequenceClassification cannot be grafted",
    ),
}


def save(folder, config, **tokenizer):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    BertTokenizer(vocab=VOCABULARY, do_lower_case=True, model_max_length=40, **tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """RTE's files with a few pairs of known words, one of them of 23 tokens."""
    folder = tmp_path_factory.mktemp("rte")
    rows = [("red cat runs", "blue dog"), ("very " * 15 + "red", "cat runs well very"), ("dog", "dog runs")] * 4
    lines = [f"{i}\t{a}\t{b}\t{('entailment', 'not_entailment')[i % 2]}\n" for i, (a, b) in enumerate(rows)]
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + "".join(lines))
    return folder


def spec_of(model, pairs, **changes):
    space = {"task": {"name": "rte", "path": str(pairs), "max_length": 32}, "model": {"path": str(model)}}
    return load_spec({"name": "fit", **space, "search": {"p0": {"low": 0.2, "high": 0.8}}, **changes})


def check(spec):
    return check_model(spec, load_untrained(spec))


def refusal(spec):
    with pytest.raises(UserError) as caught:
        check(spec)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


@pytest.mark.parametrize("kind", FIT)
def test_encoders_that_can_be_grafted_fit(kind, pairs, tmp_path):
    found = check(spec_of(save(tmp_path / kind, FIT[kind]), pairs))
    assert (found.level, "reads 23 tokens" in found.text) == (OK, True)


def test_a_ladder_that_does_not_fit_the_training_set_is_refused_before_anything_is_trained(pairs, tmp_path):
    """12 examples, in batches of 4: 3 steps an epoch."""
    method = {"batch_size": 4, "total_epochs": 9, "stage2_epochs": 1, "target_sparsity": 0.9, "pruning_events": 12}
    model = save(tmp_path / "bert", FIT["bert"])
    specs = [spec_of(model, pairs, method={**method, "ladder": [0.5], "stage1_epochs": epochs}) for epochs in (1, 6)]
    assert refusal(specs[0]).startswith("method.ladder: no pruning event stops at 0.5, for 12 events do not fit into 3")
    assert check(specs[1]).level == OK
    searched = {"stage1_epochs": {"choices": [1, 6]}}  # some points fit
    method |= {"ladder": [0.5], "stage1_epochs": 1}
    assert check(spec_of(model, pairs, method=method, search=searched)).level == OK


@pytest.mark.parametrize("kind", FIT)
def test_a_worker_that_has_none_of_its_files_times_its_fine_tuning(kind, pairs, tmp_path):
    """What a dry run sends to it, as Ray does."""
    spec = spec_of(save(tmp_path / kind, FIT[kind]), pairs)
    sent = pickle.dumps((spec, load_untrained(spec)))
    shutil.rmtree(tmp_path / kind)
    assert teacher_step(*pickle.loads(sent)) > 0


@pytest.mark.parametrize("kind", FIT)
def test_the_layers_of_these_encoders_are_one_graph(kind, pairs, tmp_path):
    spec = spec_of(save(tmp_path / kind, FIT[kind]), pairs, engine={"compile_layers": True})
    counters.clear()
    assert check(spec).level == OK
    assert counters["stats"]["unique_graphs"] > 1


def test_layers_that_are_not_one_graph_are_refused_where_they_are_to_be_compiled(pairs, tmp_path, monkeypatch):
    def reads_on_the_host(input, p, training):
        return input if float(input.sum()) > 0 else -input

    folder = save(tmp_path / "bert", FIT["bert"])
    monkeypatch.setattr(attention, "drop", reads_on_the_host)
    assert check(spec_of(folder, pairs)).level == OK
    line = refusal(spec_of(folder, pairs, engine={"compile_layers": True}))
    assert line.startswith(
        "engine.compile_layers: the layers of this BertForSequenceClassification are not one graph ("
    )
    assert line.endswith("; set it to false")


@pytest.mark.parametrize("kind", UNFIT)
def test_a_model_of_another_kind_is_named_with_what_is_supported(kind, pairs, tmp_path):
    config, said = UNFIT[kind]
    line = refusal(spec_of(save(tmp_path / kind, config), pairs))
    assert said in line
    assert "BERT, RoBERTa, DistilBERT, ELECTRA and ModernBERT" in line


def test_a_tokenizer_without_a_padding_token_is_refused(pairs, tmp_path):
    folder = save(tmp_path / "gpt2", GPT2Config(vocab_size=15, n_embd=16, n_layer=2, n_head=2, n_positions=40))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    assert "has no padding token" in refusal(spec_of(folder, pairs))


def test_a_tokenizer_with_more_token_types_than_the_model_is_refused_on_pairs(pairs, tmp_path):
    line = refusal(spec_of(save(tmp_path / "one", BertConfig(**SHAPE, type_vocab_size=1)), pairs))
    assert "token_type_embeddings has 1 row, but the tokenizer gives token type 1" in line


def test_positions_are_counted_by_running_them(pairs, tmp_path):
    """RoBERTa's first position is its padding token's number + 1: 22 rows hold 21 tokens, whatever config.json says."""
    config = RobertaConfig(**SIZES | TOKENS | dict(max_position_embeddings=22, pad_token_id=0), type_vocab_size=2)
    folder = save(tmp_path / "roberta", config)
    spec = spec_of(folder, pairs, task={"name": "rte", "path": str(pairs), "max_length": 22})
    assert "the model reads at most 21 tokens: give that" in refusal(spec)
    assert check(spec_of(folder, pairs, task={"name": "rte", "path": str(pairs), "max_length": 21})).level == OK


def test_a_model_that_reads_padding_is_refused(pairs, tmp_path):
    """A last-token classifier whose padding token is another than the tokenizer's."""
    from transformers import OPTConfig

    shape = dict(vocab_size=15, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32)
    config = OPTConfig(**shape, word_embed_proj_dim=16, max_position_embeddings=40, pad_token_id=5, init_std=0.5)
    line = refusal(spec_of(save(tmp_path / "opt", config), pairs))
    assert "padding changes what this OPTForSequenceClassification answers" in line


def test_modernberts_layers_of_two_kinds_cannot_be_halved(pairs, tmp_path):
    folder = save(tmp_path / "modern", ModernBertConfig(**SHAPE | TOKENS | dict(num_hidden_layers=4)))
    search = {"student.depth": {"choices": [0.5, 1.0]}}
    assert "method.student.depth: this encoder alternates" in refusal(spec_of(folder, pairs, search=search))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["not_entailment", "entailment"], "2 outputs (not_entailment, entailment: this task's)"),
        (["yes", "no", "maybe"], "3 outputs (yes, no, maybe: another label set)"),
    ],
)
def test_a_classifier_that_the_model_brings_is_said(pairs, tmp_path, labels, said):
    folder = save(tmp_path / "tuned", BertConfig(**SHAPE))
    names = dict(enumerate(labels))
    config = BertConfig(**SHAPE, id2label=names, label2id={name: index for index, name in names.items()})
    BertForSequenceClassification(config).save_pretrained(folder)
    found = check(spec_of(folder, pairs))
    assert (found.level, said in found.text) == (WARNING, True), found


def test_one_method_for_each_kind_of_student(pairs, tmp_path):
    search = {"student.depth": {"choices": [0.5, 1.0]}, "p0": {"choices": [0.2, 0.4]}}
    engine = {"precision": "auto", "zero_stage": "auto"}
    points = points_of(spec_of(tmp_path, pairs, search=search, engine=engine))
    assert sorted(point["student.depth"] for point in points) == [0.5, 1.0]


def test_room_is_what_weights_moments_and_masks_take(pairs, tmp_path):
    """By hand, on a BERT of 2 layers of 16: query, key, value, output 4 x 16 x 16, intermediate 2 x 16 x 32."""
    spec = spec_of(save(tmp_path / "bert", BertConfig(**SHAPE)), pairs)
    untrained = load_untrained(spec)
    matrices = 2 * (4 * 256 + 2 * 512)
    others = 2 * (4 * 16 + 32 + 16 + 4 * 16)  # biases, two LayerNorms
    embeddings, pooler, classifier = (15 + 40 + 2) * 16 + 32, 256 + 16, 2 * 16 + 2
    found = room.first_room(spec, untrained)
    assert found.student == 4 * (matrices + others + embeddings + pooler + classifier)
    assert found.state == 12 * (matrices + others) + matrices
    lengths = untrained.sample.train.lengths
    tokens, of_pairs = int(lengths.sum()), int((lengths**2).sum())
    assert found.recorded == 4 * (tokens * 16 * 3 + of_pairs * 2 * 2)  # embeddings and hidden states; maps of 2 heads
    assert room.check_room(spec, untrained, str(tmp_path), HAVE).level == OK


@pytest.mark.parametrize(("free", "shared", "files"), [(6.0, 3, 0), (5.9, 0, 3)])
def test_shared_outputs_count_once_a_machine(pairs, tmp_path, monkeypatch, free, shared, files):
    """Two trials at once that take 1 GiB each, and outputs of 3; half of what is free in shared memory may be taken."""
    spec = spec_of(save(tmp_path / "bert", BertConfig(**SHAPE)), pairs, resources={"concurrent": 2})
    untrained = load_untrained(spec)
    monkeypatch.setattr(room, "_recorded_bytes", lambda *arguments: 3 * room.GIB)
    monkeypatch.setattr(room, "free_at", lambda place: free * room.GIB)
    found = room.first_room(spec, untrained)
    assert (found.shared, found.files) == (shared * room.GIB, files * room.GIB)
    assert found.cached == found.student + found.files
    monkeypatch.setattr(room, "first_room", lambda *arguments: found._replace(memory=room.GIB))
    monkeypatch.setattr(room, "free_at", lambda place: 100 * room.GIB)
    said = room.check_room(spec, untrained, str(tmp_path), HAVE).text
    assert f"about {2 + shared}.0 GiB of memory for 2 trials at once" in said


def test_ranks_of_zero_3_have_outputs_of_their_own(pairs, tmp_path, monkeypatch):
    untrained = load_untrained(spec := spec_of(save(tmp_path / "bert", BertConfig(**SHAPE)), pairs))
    config = spec.trial_config(points_of(spec)[0], 0)
    zero_3 = config.model_copy(update={"engine": config.engine.model_copy(update={"zero_stage": 3})})
    with_outputs = room.room_of(zero_3, untrained, 10, ranks=1)
    monkeypatch.setattr(room, "_recorded_bytes", lambda *arguments: 0)
    without = room.room_of(zero_3, untrained, 10, ranks=1)
    assert with_outputs.memory - without.memory == with_outputs.recorded
    assert (with_outputs.shared, with_outputs.files) == (0, 0)


def test_a_gpu_holds_trials_by_its_memory_and_their_states_lie_in_the_machines(pairs, tmp_path):
    spec = spec_of(save(tmp_path / "bert", BertConfig(**SHAPE)), pairs, engine={"precision": "fp16", "zero_stage": 1})
    untrained = load_untrained(spec)
    config = spec.trial_config(points_of(spec)[0], 0)
    on_cpu, on_gpu = (room.room_of(config, untrained, 10, ranks=1, gpu=gpu) for gpu in (False, True))
    assert on_gpu.memory == int(room.CUDA_BASE) + on_gpu.state
    assert on_gpu.device - int(room.CONTEXT) == pytest.approx(on_cpu.memory - int(room.BASE) - on_cpu.state, abs=2)
    large = on_gpu._replace(device=4 * room.GIB, memory=5 * room.GIB, recorded=7 * room.GIB)
    # a part of 5.72 or more has room for 4 and a quarter of it in .95 of it
    assert [large.on_gpu(size * room.GIB) for size in (4, 12, 16, 24, 90)] == [0, 2, 2, 4, 15]
    assert large._replace(recorded=room.GIB).on_gpu(16 * room.GIB) == 3  # 15.2 / (4 + 1)
    said = room.describe_rank(large)
    assert "4.0 GiB of a rank's GPU and 5.0 GiB of its machine's memory; the teacher's outputs, 7.0 GiB" in said
    assert "are recorded into at most 25% of the rank's part of the GPU; GPUs of 16, 24, 40, 80 GiB hold " in said


def test_a_storage_without_room_is_refused_and_little_memory_is_a_warning(pairs, tmp_path, monkeypatch):
    spec = spec_of(save(tmp_path / "bert", BertConfig(**SHAPE)), pairs)
    untrained = load_untrained(spec)
    monkeypatch.setattr(room, "machine_memory", lambda: 2**20)
    found = room.check_room(spec, untrained, str(tmp_path), HAVE)
    assert (found.level, "--set resources.concurrent=1" in found.mend) == (WARNING, True)
    monkeypatch.setattr(room, "free_at", lambda place: 1000)
    found = room.check_room(spec, untrained, str(tmp_path), HAVE)
    assert found.level == "failed"
    assert f"{tmp_path}: 0 MiB free, where this sweep takes up to" in found.text
