"""Where a private Ray puts its sockets."""

import tempfile

import pytest

from spd_ray.base import ray_cluster
from spd_ray.base.errors import UserError
from spd_ray.base.ray_cluster import LONGEST_FOLDER, folder_for_sockets


def test_a_temporary_folder_is_used_where_a_socket_fits_and_another_where_it_does_not(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "a" * LONGEST_FOLDER)
    assert folder_for_sockets() == "/tmp"
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    assert folder_for_sockets() == "/dev/shm"


def test_a_folder_of_the_longest_path_holds_rays_longest_socket():
    assert LONGEST_FOLDER + len("/spd-12345678/r") + len(ray_cluster.SOCKET) == 107


def test_where_none_is_fit_one_line_says_what_to_set(monkeypatch):
    monkeypatch.setattr(ray_cluster.os, "access", lambda folder, mode: False)
    with pytest.raises(UserError, match=r"TMPDIR: Ray needs a folder .* at most [0-9]+ characters"):
        folder_for_sockets()
