"""Students pushed to a local stand-in of the Hugging Face Hub over HTTP, by huggingface_hub itself, and loaded back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub import Hub, running_hub
from rich.console import Console
from test_packed import deployable
from transformers import BertForSequenceClassification

from spd_ray import push
from spd_ray.base.cache import check_sums, write_sums
from spd_ray.base.errors import UserError
from spd_ray.driver.start import push_best
from spd_ray.kernels.encoder import load_sparse
from spd_ray.tracking.hub import check_hub

ROOT = Path(__file__).parents[1]
CARD = """---
library_name: transformers
---
# A student

classify = pipeline("text-classification", model="FOLDER")

## What it is not

- Tested.
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The stand-in, which is the hub of this process, with a token that may write."""
    with running_hub() as server:
        files = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # the stand-in speaks LFS alone
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setenv("HF_TOKEN", "hf_writes")
        yield server


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = deployable(tmp_path / "runs" / "00002-s0")
    (folder / "README.md").write_text(CARD)
    write_sums(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_pushed_student_answers_as_the_one_on_disk(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "notes.txt").write_text("mine")
    before = contents(checkpoint)
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "spd_ray.push", str(checkpoint), "--to", "me/student", "--packed"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pushed to {hub.endpoint}/me/student\n", "")
    assert hub.private == {"me/student"}
    assert contents(checkpoint) == before
    assert "notes.txt" not in hub.repos["me/student"]  # it is not the sweep's: SHA256SUMS does not name it
    there = Path(huggingface_hub.snapshot_download("me/student", cache_dir=tmp_path / "c", endpoint=hub.endpoint))
    check_sums(there)
    card = (there / "README.md").read_text()
    assert 'model="me/student"' in card
    assert 'load_sparse(snapshot_download("me/student") + "/packed")' in card
    models = [BertForSequenceClassification.from_pretrained(one) for one in (checkpoint, there)]
    tokens = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    wanted, found, packed = (model(**tokens).logits for model in [*models, load_sparse(there / "packed")])
    assert torch.equal(found, wanted)
    assert torch.allclose(packed, wanted, atol=1e-4)


def test_a_second_push_replaces_the_first_and_leaves_no_packed_copy_of_it(hub: Hub, checkpoint: Path) -> None:
    hub.repos["ours/student"] = {"packed/packed.safetensors": b"old", "config.json": b"old", "LICENSE": b"theirs"}
    assert push.main([str(checkpoint), "--to", "ours/student"]) == 0
    found = hub.repos["ours/student"]
    assert found["config.json"] == (checkpoint / "config.json").read_bytes()
    assert found["LICENSE"] == b"theirs"
    assert not any(name.startswith("packed/") for name in found)
    assert "ours/student" not in hub.private  # it was there


@pytest.mark.parametrize(
    ("repo", "token", "words"),
    [
        ("student", "hf_writes", "OWNER/NAME is needed, such as your-name/student"),
        ("me/-s/t", "hf_writes", "Repo id must"),
        ("me/student", None, "type `hf auth login`, or set HF_TOKEN"),
        ("me/student", "hf_wrong", r"me/student: the hub does not take it: .*401"),
        ("me/student", "hf_reads", "the token may only read"),
        ("them/student", "hf_writes", "the token is of me, ours, who may not write there"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_done(
    hub: Hub, repo: str, token: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=words) as refused:
        check_hub(repo)
    assert "\n" not in str(refused.value)
    assert hub.repos == {}


def test_a_push_that_the_hub_refuses_costs_nothing_and_says_what_to_type(hub: Hub, checkpoint: Path) -> None:
    hub.refused.add("me/student")
    before = contents(checkpoint)
    with pytest.raises(UserError, match=r"You have no rights.*HTTP 403.*push its best student with: ") as refused:
        push_best(str(checkpoint), "me/student", Console(quiet=True))
    assert f"-m spd_ray.push {checkpoint} --to me/student" in str(refused.value)
    assert contents(checkpoint) == before
    hub.refused.clear()
    push_best(checkpoint.as_uri(), "me/student", Console(quiet=True))  # from an object store's URI, too
    assert json.loads(hub.repos["me/student"]["config.json"])["model_type"] == "bert"


@pytest.mark.parametrize(
    ("broken", "words"),
    [("README.md", "no README.md; a checkpoint that a sweep has kept"), ("config.json", "not as it was written")],
)
def test_a_checkpoint_that_is_not_whole_is_not_pushed(hub: Hub, checkpoint: Path, broken: str, words: str) -> None:
    if broken == "README.md":
        (checkpoint / broken).unlink()
    else:
        (checkpoint / broken).write_text("{}")
    with pytest.raises(UserError, match=words):
        push.main([str(checkpoint), "--to", "me/student"])
    assert hub.repos == {}
