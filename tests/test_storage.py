"""A sweep behind a URI, on the local file system's own: what is sent, fetched and dropped is what the store has."""

from pathlib import Path

import pytest

from spd_ray.base.errors import StorageError, UserError, storage_refusal
from spd_ray.base.network import join_place
from spd_ray.config.sweep import SweepSpec
from spd_ray.driver.place import place_of
from spd_ray.records.storage import SweepStorage


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def storage(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStorage:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    store.mkdir()
    storage = SweepStorage(store.as_uri(), "driver")
    storage.clear_copy()
    return storage


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def tree(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_folder_that_is_sent_replaces_the_one_in_the_store(storage: SweepStorage, store: Path) -> None:
    folder = storage.folder / "checkpoints" / "a"
    written(folder / "one", "1")
    written(folder / "old", "o")
    storage.send(folder)
    (folder / "old").unlink()
    written(folder / "one", "2")
    written(folder / "below" / "two", "2")
    storage.send(folder)
    assert tree(store) == {"checkpoints/a/below/two": "2", "checkpoints/a/one": "2"}
    assert storage.folders(storage.folder / "checkpoints") == [folder]
    storage.clear_copy()
    assert tree(storage.folder) == {}
    storage.fetch(storage.folder / "checkpoints")
    assert tree(storage.folder) == tree(store)
    storage.drop(folder)
    storage.drop(folder)
    assert (tree(store), tree(storage.folder), storage.folders(folder.parent)) == ({}, {}, [])
    storage.fetch(folder)
    assert not folder.exists()


def test_the_sweeps_own_files_go_when_they_have_changed_but_never_the_journal(
    storage: SweepStorage, store: Path
) -> None:
    for name in ("trials.parquet", "study.journal", "trials.journal", ".hidden"):
        written(storage.folder / name, name)
    written(storage.folder / "ray" / "of_tune", "x")
    storage.send_files()
    assert set(tree(store)) == {"study.journal", "trials.parquet"}
    (store / "study.journal").unlink()
    written(storage.folder / "trials.parquet", "more")
    storage.send_files()
    assert tree(store) == {"trials.parquet": "more"}
    written(store / "steps" / "part", "x")
    storage.clear_copy()
    storage.fetch_files()
    assert tree(storage.folder) == {"trials.parquet": "more"}


def test_two_processes_have_two_working_copies(storage: SweepStorage, store: Path) -> None:
    other = SweepStorage(store.as_uri(), "00000-s0-rank-0")
    other.clear_copy()
    storage.send(written(storage.folder / "a", "1"))
    assert not (other.folder / "a").exists()
    other.fetch(other.folder / "a")
    assert (other.folder / "a").read_text() == "1"
    assert storage.shown(storage.folder / "x" / "y") == f"{store.as_uri()}/x/y"


def test_what_the_store_refuses_is_told_as_a_refusal(storage: SweepStorage, store: Path) -> None:
    written(store / "a", "in the way")
    with pytest.raises(StorageError, match="the object store refuses: ") as caught:
        storage.send(written(storage.folder / "a" / "file", "1").parent)
    assert storage_refusal(ValueError("x")) is None
    assert storage_refusal(caught.value) == str(caught.value)


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
    storage = SweepStorage(str(tmp_path), "driver")
    file = written(tmp_path / "folder" / "file", "1")
    storage.clear_copy()
    storage.send(file)
    storage.send_files()
    storage.fetch(file)
    assert (storage.folder, storage.is_remote, storage.shown(file)) == (tmp_path, False, str(file))
    assert storage.folders(tmp_path) == [file.parent]
    storage.drop(file.parent)
    assert not file.parent.exists()


def test_a_uris_options_stay_behind_its_path() -> None:
    assert join_place("s3://bucket/runs/?region=x&scheme=http", "rte") == "s3://bucket/runs/rte?region=x&scheme=http"
    assert join_place("/runs", "rte") == "/runs/rte"


@pytest.mark.parametrize(
    ("storage", "tracking", "words"),
    [
        ("s3://bucket/runs", {}, "give --set tracking.uri=http://HOST:5000 too"),
        ("gopher://bucket/runs", {"uri": "http://127.0.0.1:1"}, "a folder, or s3://, gs:// or abfss:// is needed"),
        ("s3://key:word@bucket/runs", {"uri": "http://127.0.0.1:1"}, "a secret in it would be recorded"),
    ],
)
def test_a_uri_that_cannot_be_used_is_told_in_one_line(storage: str, tracking: dict[str, str], words: str) -> None:
    spec = SweepSpec.model_validate({"task": {"name": "rte"}, "name": "rte", "tracking": tracking})
    with pytest.raises(UserError, match="--storage") as caught:
        place_of(storage, spec)
    assert words in str(caught.value)
    assert "word@" not in str(caught.value)
