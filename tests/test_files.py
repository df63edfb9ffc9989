"""Files and folders appear whole, with the umask's mode, and what a killed process left goes."""

import os
import stat
import subprocess
from collections.abc import Iterator

import pytest

from spd_ray.base.files import remove_unfinished, whole_file, whole_folder, write_whole
from spd_ray.records import provenance
from spd_ray.records.trials import write_trials
from tests.test_records import trial


@pytest.fixture(params=[0o022, 0o027, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_has_the_mode_that_the_umask_gives(tmp_path, umask):
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "text", "x")
    write_trials(tmp_path, [trial("00001-s0")])
    with whole_folder(tmp_path / "folder") as building:
        (building / "model").write_text("x")
        (building / "model").chmod(0o600)  # as safetensors and mkstemp leave it
        (building / "inner").mkdir()
    expected = mode(tmp_path / "plain")
    assert expected == 0o666 & ~umask
    assert {mode(tmp_path / name) for name in ("text", "trials.parquet", "folder/model")} == {expected}
    assert {mode(tmp_path / name) for name in ("folder", "folder/inner")} == {0o777 & ~umask}


def test_what_fails_in_the_middle_leaves_the_earlier_one_and_nothing_else(tmp_path):
    write_whole(tmp_path / "file", "before")
    with whole_folder(tmp_path / "folder") as building:
        (building / "a").write_text("before")
    with pytest.raises(TypeError), whole_file(tmp_path / "file") as file:
        file.writelines([b"half", None])
    with pytest.raises(OSError, match="no"), whole_folder(tmp_path / "folder"):
        raise OSError("no")
    assert (tmp_path / "file").read_text() == "before"
    assert (tmp_path / "folder" / "a").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_killed_processes_left_goes_and_that_of_other_names_stays(tmp_path):
    for name in (".00000-s1-x1.part", ".00000-s1-sparsity-0.5-x2.part", ".00000-s10-x3.part"):
        (tmp_path / name).mkdir()
    (tmp_path / ".00000-s1-x4.tmp").touch()
    remove_unfinished(tmp_path, "00000-s1")
    assert [path.name for path in tmp_path.iterdir()] == [".00000-s10-x3.part"]
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_git_there_is_no_commit_and_nothing_stops(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        subprocess.run(["git", "--version"])
    assert provenance.git_commit() is None
