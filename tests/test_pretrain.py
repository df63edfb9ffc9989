"""The pretraining loop and its command: masking proportions, the schedule, and the command from text to reload."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from spd_ray import pretrain
from spd_ray.base.errors import UserError
from spd_ray.base.files import whole_folder
from spd_ray.data.corpus import read_corpus
from spd_ray.data.miniature import corpus
from spd_ray.training import miniature_encoder as recipe
from spd_ray.training import mlm
from spd_ray.training.mlm import Masking, Plan, Rows

TINY = ["--layers=1", "--hidden=8", "--heads=2", "--intermediate=16", "--steps=6", "--batch-size=4", "--max-length=12"]
TEXT = "the cat sat on the mat\nthe dog sat on the log\n\nthe cat saw the dog\n"


def tiny_model(seed: int = 0) -> mlm.PretrainingModel:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    config = BertConfig(**{**recipe.MODEL, **sizes})
    return mlm.new_model(config, seed, embedding_std=0.05)


def tiny_rows(count: int = 40) -> Rows:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, len(corpus.VOCABULARY), (count, 9), dtype=np.int32)
    ids[:, 0], ids[:, -1] = 2, 3
    types = np.zeros_like(ids)
    types[:, 5:] = 1
    return Rows(ids, types, np.arange(count) % 2)


def test_masking_has_the_recipes_proportions() -> None:
    masking = recipe.masking()
    function, content = (corpus.VOCABULARY.index(word) for word in ("was", corpus.VOCABULARY[-1]))
    ids = np.tile([2, content, function, 3, 0], (40_000, 1))
    read, chosen = mlm.mask_tokens(ids, masking, 1.0, np.random.default_rng(0))
    assert not chosen[:, [0, 3, 4]].any()
    assert chosen[:, 1].mean() == pytest.approx(recipe.MASKING["content"], abs=0.01)
    assert chosen[:, 2].mean() == pytest.approx(recipe.MASKING["function"], abs=0.005)
    assert (read[~chosen] == ids[~chosen]).all()
    seen = read[:, 1][chosen[:, 1]]
    hidden = 1 - recipe.MASKING["kept"] - recipe.MASKING["random"]
    assert (seen == masking.mask_id).mean() == pytest.approx(hidden, abs=0.015)
    assert (seen == content).mean() == pytest.approx(recipe.MASKING["kept"], abs=0.015)
    assert set(np.unique(seen)) == {masking.mask_id, *masking.words}


def test_scale_multiplies_the_rates() -> None:
    ids = np.full((2, 50_000), corpus.VOCABULARY.index("was"))
    masking = Masking(rates=np.full(len(corpus.VOCABULARY), 0.3), words=np.array([5]), mask_id=4)
    _, chosen = mlm.mask_tokens(ids, masking, 2 / 3, np.random.default_rng(0))
    assert chosen.mean() == pytest.approx(0.2, abs=0.01)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_every_batch_has_a_chosen_token(seed: int, length: int) -> None:
    ids = np.array([[2, *[7] * length, 3]])
    masking = Masking(rates=np.where(np.arange(10) > 4, 0.01, 0.0), words=np.array([7]), mask_id=4)
    _, chosen = mlm.mask_tokens(ids, masking, 1.0, np.random.default_rng(seed))
    assert chosen.any()
    assert not chosen[ids < 5].any()


@given(st.integers(2, 500), st.data())
@settings(max_examples=50)
def test_the_rate_rises_then_falls(steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    plan = Plan(steps=steps, batch_size=1, learning_rate=0.5, warmup_steps=warmup)
    rates = [mlm.learning_rate(step, plan) for step in range(steps)]
    assert max(rates) == rates[warmup] == 0.5
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert min(rates) > 0


def test_the_seed_decides_the_weights_and_nothing_outside_does() -> None:
    trained = []
    for seed, outside in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        model = tiny_model(seed)
        plan = Plan(steps=4, batch_size=8, learning_rate=1e-3, warmup_steps=1, mlm_only_steps=2, seed=seed)
        mlm.pretrain(model, tiny_rows(), tiny_rows(), recipe.masking(), plan)
        assert torch.equal(torch.get_rng_state(), state)
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(trained[0], trained[1])
    assert not torch.allclose(trained[0], trained[2])


@pytest.mark.parametrize(("mlm_only_steps", "learns"), [(4, False), (2, True)])
def test_pairs_join_after_the_mlm_only_steps_and_train_the_pooler(mlm_only_steps: int, learns: bool) -> None:
    model, untrained = tiny_model(), tiny_model()
    plan = Plan(
        steps=4, batch_size=8, learning_rate=1e-2, warmup_steps=0, mlm_only_steps=mlm_only_steps, weight_decay=0
    )
    mlm.pretrain(model, tiny_rows(), tiny_rows(), recipe.masking(), plan)
    pooler, before = model.bert.pooler.dense.weight, untrained.bert.pooler.dense.weight
    assert torch.equal(pooler, before) != learns


def test_mlm_learns_a_constant_text() -> None:
    """One sentence again and again: its words are soon predicted from their places."""
    ids = np.tile(np.array([2, 10, 20, 30, 40, 50, 3], dtype=np.int32), (32, 1))
    rows = Rows(ids, np.zeros_like(ids), np.zeros(32, dtype=np.int64))
    model = tiny_model()
    plan = Plan(steps=80, batch_size=16, learning_rate=2e-2, warmup_steps=5)
    mlm.pretrain(model, rows, None, recipe.masking(), plan)
    masked = torch.tensor([[2, 10, 20, 4, 40, 50, 3]])
    assert int(model.token_logits(model.bert(masked).last_hidden_state[0, 3:4]).argmax()) == 30


def test_documents_are_lines_and_of_a_tsv_file_the_fields_with_a_space(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two\n\n  three\tfour \n")
    (tmp_path / "b.tsv").write_text('index\tsentence\n7\tA "cat sat.\tno dog\t1\n')
    assert read_corpus([tmp_path / "a.txt", tmp_path / "b.tsv"]) == [
        "one two",
        "three\tfour",
        'A "cat sat. no dog',
    ]


def test_the_command_writes_a_transformers_directory(tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "deep" / "bert"
    text.write_text(TEXT * 3)
    command = [sys.executable, "-m", "spd_ray.pretrain", "--corpus", text, "--out", out, *TINY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pretraining: 6/6" in done.stderr
    assert "loss" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "text.txt"]
    assert [path.name for path in out.parent.iterdir()] == ["bert"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    tokenizer = AutoTokenizer.from_pretrained(out)
    encoded = tokenizer("The CAT", "sat", return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"][0]) == ["[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]"]
    _, report = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    classifier = AutoModelForSequenceClassification.from_pretrained(out, num_labels=3)
    assert classifier(**encoded).logits.shape == (1, 3)


BAD_INPUTS = {
    "absent.txt: cannot be read": (["--corpus=absent.txt", "--out=out"], {}),
    "folder: cannot be read": (["--corpus=folder", "--out=out"], {"folder/file": b""}),
    "empty.txt: no text": (["--corpus=empty.txt", "--out=out"], {"empty.txt": b" \n\n"}),
    "latin.txt: byte 3 is not UTF-8": (["--corpus=latin.txt", "--out=out"], {"latin.txt": b"caf\xe9 au lait"}),
    "control.txt: no words": (["--corpus=control.txt", "--out=out"], {"control.txt": b"\x01\x02"}),
    "--out out: exists": (["--corpus=text.txt", "--out=out"], {"out/file": b""}),
    "--out text.txt: exists": (["--corpus=text.txt", "--out=text.txt"], {}),
    "--out text.txt/out: cannot be made": (["--corpus=text.txt", "--out=text.txt/out"], {}),
    "--hidden 10: must be a multiple of --heads 4": (
        ["--corpus=text.txt", "--out=out", "--hidden=10", "--heads=4"],
        {},
    ),
    "--steps: 0 is less than 1": (["--corpus=text.txt", "--out=out", "--steps=0"], {}),
    "--lr: nan is not above 0": (["--corpus=text.txt", "--out=out", "--lr=nan"], {}),
    "unrecognized arguments: --depth=2": (["--corpus=text.txt", "--out=out", "--depth=2"], {}),
}


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_bad_inputs_are_refused(message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, files = BAD_INPUTS[message]
    monkeypatch.chdir(tmp_path)
    for name, content in {"text.txt": TEXT.encode(), **files}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refused:
        pretrain.main([*TINY, *arguments])
    assert message in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spd_ray.pretrain", "--corpus", tmp_path / "absent", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("written")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())
