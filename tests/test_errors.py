"""What a storage that takes nothing more looks like, whoever says so."""

import errno
import os

import pytest
from safetensors import SafetensorError

from spd_ray.base.cache import build_once
from spd_ray.base.errors import UserError, storage_refusal
from spd_ray.base.files import write_whole

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def caused_by(cause):
    try:
        raise RuntimeError("a trial failed") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]"),  # as pyarrow says it
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        caused_by(FULL),
    ],
)
def test_a_full_storage_is_found_in_what_libraries_raise(error):
    assert storage_refusal(error) == "No space left on device"


def test_other_errors_are_no_refusal():
    assert storage_refusal(OSError(errno.EROFS, "")) == "Read-only file system"
    assert storage_refusal(caused_by(FileNotFoundError(errno.ENOENT, "No such file or directory"))) is None


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    write_whole(tmp_path / "sweep.yaml", "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "sweep.yaml", "\ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("sweep.yaml", "first")]


def test_a_full_cache_is_told_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path))

    def build(folder):
        raise FULL

    with pytest.raises(UserError, match=f"^{tmp_path}: No space left on device; mend that, or set SPD_RAY_CACHE"):
        build_once("teachers", "0123", build)
