"""Packed students: on disk, read back strictly, and in use beside the transformers model they were."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, DistilBertConfig, pipeline
from transformers import DistilBertForSequenceClassification as DistilBert

from spd_ray import deploy
from spd_ray.base.cache import write_sums
from spd_ray.base.errors import UserError
from spd_ray.data.miniature import corpus
from spd_ray.kernels import bert, build, encoder, packed
from spd_ray.kernels.cost import StudentCost, measure_cost
from spd_ray.kernels.encoder import load_sparse, packed_of, sparse_classifier
from spd_ray.kernels.packed import pack_model, read_packed

compiled = pytest.mark.skipif(not build.available(), reason=str(build.unavailable_because()))
SETS = ("portable", "avx2", "avx512")
SMALL = {
    "vocab_size": 120,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 100,
    "max_position_embeddings": 200,
}


def sparse_model(sparsity: float = 0.9, seed: int = 0, **changes: Any) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    model = BertForSequenceClassification(BertConfig(**{**SMALL, "initializer_range": 0.3, **changes}))
    for name, weight in model.named_parameters():
        weight.data.add_(torch.randn(weight.shape) * 0.1)
        if bert.is_matrix(name):
            weight.data *= torch.rand(weight.shape) >= sparsity
    return model.eval().requires_grad_(False)


def batch(lengths: list[int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    return {
        "input_ids": torch.randint(0, SMALL["vocab_size"], shape, generator=generator),
        "attention_mask": mask.long(),
        "token_type_ids": torch.randint(0, 2, shape, generator=generator),
    }


def check_answers(model: nn.Module, sparse: Any, inputs: dict[str, Tensor]) -> None:
    """Logits and the hidden states of all real tokens, to 1e-4."""
    with torch.no_grad():
        wanted = model(**inputs).logits
        hidden = model.bert(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    torch.testing.assert_close(sparse(**inputs).logits, wanted, atol=1e-4, rtol=1e-4)
    found = sparse.tokens(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"])
    torch.testing.assert_close(found, hidden, atol=1e-4, rtol=1e-4)


@compiled
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=1, max_size=6),
    sparsity=st.sampled_from([0.0, 0.9, 1.0]),
    heads=st.sampled_from([1, 3, 12]),
    layers=st.integers(0, 3),
    threads=st.integers(1, 3),
    group=st.sampled_from([1, 100, 512]),
)
def test_answers_as_transformers_does(
    lengths: list[int], sparsity: float, heads: int, layers: int, threads: int, group: int
) -> None:
    before, group_before = torch.get_num_threads(), encoder.GROUP
    try:
        torch.set_num_threads(threads)
        encoder.GROUP = group
        model = sparse_model(sparsity, num_attention_heads=heads, num_hidden_layers=layers)
        check_answers(model, sparse_classifier(packed_of(model)), batch(lengths))
    finally:
        torch.set_num_threads(before)
        encoder.GROUP = group_before


@compiled
@pytest.mark.parametrize("name", SETS)
def test_every_instruction_set(name: str) -> None:
    try:
        if torch.ops.spd_ray.use_instruction_set(name) != name:
            pytest.skip(f"no {name} here")
        model = sparse_model()
        for lengths in ([5], [16, 40, 3], [200, 64, 64]):
            check_answers(model, sparse_classifier(packed_of(model)), batch(lengths))
    finally:
        for one in SETS:
            torch.ops.spd_ray.use_instruction_set(one)


@compiled
def test_arguments_and_outputs() -> None:
    model = sparse_model(num_labels=3)
    sparse = sparse_classifier(packed_of(model))
    inputs = batch([7, 4])
    ids, holes = inputs["input_ids"], inputs["attention_mask"].clone()
    holes[0, 3] = 0
    labels = torch.tensor([0, 2])
    for arguments in (
        {"input_ids": ids},
        {"input_ids": ids, "attention_mask": holes},
        {"input_ids": ids, "attention_mask": holes.bool(), "labels": labels},
    ):
        wanted, found = model(**arguments), sparse(**arguments)
        torch.testing.assert_close(found.logits, wanted.logits, atol=1e-4, rtol=1e-4)
        if "labels" in arguments:
            torch.testing.assert_close(found.loss, wanted.loss, atol=1e-4, rtol=1e-4)
    loss, logits = sparse(**inputs, labels=labels, return_dict=False)
    assert loss.dim() == 0
    assert logits.shape == (2, 3)
    assert sparse.config.num_labels == 3
    assert copy.deepcopy(sparse)(**inputs).logits.equal(logits)


@compiled
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention_mask": torch.tensor([[0, 1, 1]])}, "pad on the right"),
        ({"attention_mask": torch.ones(1, 4)}, "does not fit"),
        ({"input_ids": torch.ones(1, 201, dtype=torch.long)}, "the model has 200"),
        ({"input_ids": torch.ones(3, dtype=torch.long)}, "are expected"),
    ],
)
def test_wrong_inputs(changes: dict[str, Tensor], words: str) -> None:
    sparse = sparse_classifier(packed_of(sparse_model(num_hidden_layers=1)))
    with pytest.raises(ValueError, match=words):
        sparse(**{"input_ids": torch.ones(1, 3, dtype=torch.long), **changes})
    with pytest.raises(UserError, match="CPU in fp32"):
        sparse.half()


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95, 1.0])
def test_fp32_comes_back_bit_for_bit(tmp_path: Path, sparsity: float) -> None:
    model = sparse_model(sparsity)
    sizes = pack_model(model, None, tmp_path / "packed")
    state = read_packed(tmp_path / "packed").dense_state()
    wanted = model.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert sizes.encoder_bound <= sizes.encoder_packed < sizes.packed
    assert sizes.dense == sum(one.nbytes for one in wanted.values())


@pytest.mark.parametrize(("values", "embeddings"), [("fp32", "fp16"), ("fp16", "int8"), ("fp32", "int8")])
def test_smaller_types(tmp_path: Path, values: str, embeddings: str) -> None:
    model = sparse_model()
    sizes = pack_model(model, None, tmp_path / "packed", values=values, embeddings=embeddings)
    assert sizes.packed < pack_model(model, None, tmp_path / "whole").packed
    state = read_packed(tmp_path / "packed").dense_state()
    for name, wanted in model.state_dict().items():
        bound = 1 / 250 if bert.is_embedding(name) and embeddings == "int8" else 1e-3
        assert float((state[name] - wanted).abs().max()) <= bound * float(wanted.abs().max()), name
    sparse = load_sparse(tmp_path / "packed")
    dense = BertForSequenceClassification(model.config).eval()
    dense.load_state_dict(state)
    inputs = batch([20, 9])
    torch.testing.assert_close(sparse(**inputs).logits, dense(**inputs).logits, atol=1e-4, rtol=1e-4)


def test_what_fp16_cannot_hold(tmp_path: Path) -> None:
    model = sparse_model()
    model.bert.embeddings.word_embeddings.weight.data[3, 3] = 1e5
    with pytest.raises(UserError, match="more than fp16 can hold"):
        pack_model(model, None, tmp_path / "packed", embeddings="fp16")
    assert not (tmp_path / "packed").exists()


@settings(max_examples=80, deadline=None)
@given(numel=st.integers(1, 3000), density=st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]), seed=st.integers(0, 99))
def test_positions(numel: int, density: float, seed: int) -> None:
    kept = np.random.default_rng(seed).random(numel) < density
    at = np.flatnonzero(kept)
    assert np.array_equal(packed.to_positions(packed.to_gaps(at), "gaps", numel), at)
    assert np.array_equal(packed.to_positions(np.packbits(kept), "mask", numel), at)


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"is_decoder": True}, {"hidden_size": 24}])
def test_berts_that_cannot_be_packed(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="cannot be packed"):
        pack_model(sparse_model(num_hidden_layers=1, num_attention_heads=12, **changes), None, tmp_path / "packed")


def test_other_architectures(tmp_path: Path) -> None:
    model = DistilBert(DistilBertConfig(vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=16))
    for function in (lambda: pack_model(model, None, tmp_path / "packed"), lambda: packed_of(model)):
        with pytest.raises(UserError, match=r"^model_type distilbert: [^\n]*$"):
            function()


Harm = Callable[[Path], None]


def cut(folder: Path) -> None:
    file = folder / packed.PACKED
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder: Path) -> None:
    file = folder / packed.PACKED
    raw = bytearray(file.read_bytes())
    raw[-50] ^= 1
    file.write_bytes(raw)


def changed_tensor(name: str, change: Callable[[Tensor], Tensor | None]) -> Harm:
    def harm(folder: Path) -> None:
        tensors = load_file(folder / packed.PACKED)
        changed = change(tensors.pop(name))
        save_file({**tensors, **({} if changed is None else {name: changed})}, folder / packed.PACKED)

    return harm


def changed_json(file: str, **changes: Any) -> Harm:
    def harm(folder: Path) -> None:
        raw = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**raw, **changes}))

    return harm


QUERY = "bert.encoder.layer.0.attention.self.query.weight"
HARMS: dict[str, tuple[Harm, bool, str]] = {
    "cut": (cut, False, "differs from SHA256SUMS"),
    "flipped": (flip, False, "differs from SHA256SUMS"),
    "cut, sums mended": (cut, True, "damaged"),
    "no weights": (lambda folder: (folder / packed.PACKED).unlink(), False, "is missing"),
    "no sums": (lambda folder: (folder / "SHA256SUMS").unlink(), False, "No such file"),
    "later version": (changed_json(packed.MANIFEST, version=2), True, "version 2, this program reads version 1"),
    "other format": (changed_json(packed.MANIFEST, format="zip"), True, "not of the format"),
    "no types": (changed_json(packed.MANIFEST, values="fp8"), True, "damaged"),
    "no matrices": (changed_json(packed.MANIFEST, matrices={}), True, "damaged"),
    "list of matrices": (changed_json(packed.MANIFEST, matrices=[]), True, "damaged"),
    "other config": (changed_json(packed.CONFIG, hidden_size=64), True, "damaged"),
    "negative config": (changed_json(packed.CONFIG, vocab_size=-5), True, "damaged"),
    "other model": (changed_json(packed.CONFIG, model_type="gpt2"), True, "not of a BERT"),
    "absent": (changed_tensor("classifier.bias", lambda _: None), True, "classifier.bias is missing"),
    "not finite": (changed_tensor("classifier.bias", lambda x: x * torch.nan), True, "no numbers"),
    "too few values": (changed_tensor(f"{QUERY}.values", lambda x: x[1:].clone()), True, "damaged"),
    "gaps too long": (changed_tensor(f"{QUERY}.gaps", lambda x: x * 0 + 254), True, "lead out of the matrix"),
    "gap without end": (changed_tensor(f"{QUERY}.gaps", lambda x: torch.cat([x, x[:1] * 0 + 255])), True, "no end"),
    "gaps too few": (changed_tensor(f"{QUERY}.gaps", lambda x: x[1:].clone()), True, "places"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_damage_is_one_line(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "packed"
    pack_model(sparse_model(0.95), None, folder)
    function, mended, words = HARMS[harm]
    function(folder)
    if mended:
        write_sums(folder)
    with pytest.raises(UserError, match=words) as raised:
        load_sparse(folder)
    assert "\n" not in str(raised.value)


def test_nothing_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no packed student here"):
        load_sparse(tmp_path)


def test_plain_torch_where_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sparse_model()
    pack_model(model, None, tmp_path / "packed")
    monkeypatch.setattr(encoder, "available", lambda: False)
    inputs = batch([12, 5])
    torch.testing.assert_close(load_sparse(tmp_path / "packed")(**inputs).logits, model(**inputs).logits)


def test_pipeline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import AutoTokenizer, BertTokenizer

    words = {word: index for index, word in enumerate(corpus.VOCABULARY)}
    BertTokenizer(vocab=words).save_pretrained(tmp_path / "dense")
    model = sparse_model(vocab_size=len(words), id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    model.save_pretrained(tmp_path / "dense")
    pack_model(model, tmp_path / "dense", tmp_path / "packed")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "packed")
    texts = [" ".join(corpus.VOCABULARY[10:14]), " ".join(corpus.VOCABULARY[20:31])]
    answers = [
        pipeline("text-classification", model=one, tokenizer=tokenizer)(texts, batch_size=2)
        for one in (model, load_sparse(tmp_path / "packed"))
    ]
    assert "not supported" not in caplog.text
    for wanted, found in zip(*answers, strict=True):
        assert found["label"] == wanted["label"]
        assert found["score"] == pytest.approx(wanted["score"], abs=1e-4)


def deployable(folder: Path) -> Path:
    """A student's directory with a tokenizer, and the trial that says what its task is."""
    from transformers import BertTokenizer

    words = {word: index for index, word in enumerate(corpus.VOCABULARY)}
    BertTokenizer(vocab=words).save_pretrained(folder)
    sparse_model(0.95, vocab_size=len(words)).save_pretrained(folder)
    (folder / "spd_ray.json").write_text(json.dumps({"task": {"name": "mini_acceptability", "max_length": 24}}))
    return folder


def test_deploy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = deployable(tmp_path / "dense")
    report = tmp_path / "report.json"
    arguments = [str(checkpoint), "--out", str(tmp_path / "packed"), "--embeddings", "fp16", "--json", str(report)]
    assert deploy.main(arguments) == 0
    assert deploy.main(arguments) == 0  # an earlier one is replaced
    found = json.loads(report.read_text())
    assert found["packed"] == (tmp_path / "packed" / packed.PACKED).stat().st_size < found["dense"]
    assert found["sparsity"] == pytest.approx(0.95, abs=0.01)
    assert found["largest_difference"]["packed"] < 0.01
    assert found["dev_score"]["packed"] == pytest.approx(found["dev_score"]["dense"], abs=0.01)
    assert "entropy bound" in capsys.readouterr().out


def test_deploy_writes_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    checkpoint = deployable(tmp_path / "dense")
    (checkpoint / "spd_ray.json").unlink()
    report = tmp_path / "report.json"
    file = tmp_path / "student.onnx"
    deploy.main([str(checkpoint), "--out", str(tmp_path / "packed"), "--onnx", str(file), "--json", str(report)])
    found = json.loads(report.read_text())
    assert found["onnx_fp32"] == file.stat().st_size > found["onnx_int8"]
    assert found["onnx_int8"] == (tmp_path / "student.int8.onnx").stat().st_size
    assert found["largest_difference"]["onnx_fp32"] < 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{here}/absent", "--out", "{here}/packed"], "no checkpoint here"),
        (["{here}/dense", "--out", "{here}"], "something else than a packed student"),
        (["{here}/dense", "--out", "{here}/dense/config.json/packed"], "config.json"),
        (["models:/nobody@best", "--out", "{here}/packed", "--mlflow", "{here}/mlruns"], "not available from"),
    ],
)
def test_deploy_refuses(tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    deployable(tmp_path / "dense")
    with pytest.raises(UserError, match=words):
        deploy.main([one.format(here=tmp_path) for one in arguments])


def test_deploy_from_the_registry(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.create_registered_model("student")
    version = client.create_model_version("student", deployable(tmp_path / "dense").as_uri())
    client.set_registered_model_alias("student", "best", version.version)
    assert deploy.main(["models:/student@best", "--out", str(tmp_path / "packed"), "--mlflow", uri]) == 0
    assert load_sparse(tmp_path / "packed").config.hidden_size == SMALL["hidden_size"]


def test_a_student_that_cannot_be_packed_has_no_footprint():
    config = DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    assert measure_cost(DistilBert(config)) == StudentCost()
