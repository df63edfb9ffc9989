"""A sweep in a store has one driver: another machine's is refused, and takes over where that one gives no sign."""

from pathlib import Path

import pytest

from spd_ray.base.errors import StorageError, UserError
from spd_ray.records import lease
from spd_ray.records.lease import Lease, leased
from spd_ray.records.storage import SweepStorage
from tests.waiting import wait_for


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a sweep in a store; time goes fifty times as fast."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    for name in ("BEAT_SECONDS", "LEASE_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 50)
    (tmp_path / "bucket").mkdir()
    return (tmp_path / "bucket").as_uri()


def driver(place: str, machine: str) -> Lease:
    made = Lease(place)
    made.told |= {"machine": machine, "host": f"host-{machine}"}
    return made


def quiet(text: str) -> None:
    """Nobody hears it."""


def test_a_second_driver_is_refused_while_the_first_renews_its_lease(place, tmp_path):
    said = []
    first, second = driver(place, "a"), driver(place, "b")
    first.acquire(quiet)
    first.confirm()
    with pytest.raises(UserError) as caught:
        second.acquire(said.append)
    assert str(caught.value).startswith(f"{place}: a driver on host-a (process ")
    assert str(caught.value).endswith(" runs this sweep; wait for it or give another --name")
    assert len(said) == 1
    first.check()
    second.release()
    assert (tmp_path / "bucket/.lease").exists()  # the first one's
    first.release()
    assert not (tmp_path / "bucket/.lease").exists()


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_driver_writes_nothing_more(place):
    first, second = driver(place, "a"), driver(place, "b")
    first._write()  # and it falls asleep
    second.acquire(quiet)
    second.confirm()
    first._thread.start()
    assert wait_for(lambda: first._taken_by, seconds=5)
    with pytest.raises(StorageError, match=r"^a driver on host-b has taken this sweep over$"):
        first.check()
    second.check()
    first.release()
    assert second._read()[0] == second.told
    second.release()


def test_of_two_that_begin_at_once_one_stays(place):
    first, second = driver(place, "a"), driver(place, "b")
    for one in (first, second):
        one._write()  # both have found no lease
    with pytest.raises(UserError, match="a driver on host-b"):
        first.confirm()
    second.confirm()


def test_what_a_dead_driver_of_this_machine_left_is_taken_at_once(place, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1000.0)
    Lease(place)._write()
    with leased(SweepStorage(place, "driver"), quiet) as confirm:
        confirm()


def test_a_driver_that_has_lost_its_lease_sends_and_drops_nothing(place, tmp_path):
    storage = SweepStorage(place, "driver")
    storage.clear_copy()
    (storage.folder / "trials.parquet").write_text("1")
    with leased(storage, quiet) as confirm:
        confirm()
        driver(place, "b")._write()
        assert wait_for(lambda: _refuses(storage), seconds=5)
        with pytest.raises(StorageError):
            storage.send(storage.folder / "trials.parquet")
        with pytest.raises(StorageError):
            storage.drop(storage.folder / "state")
    assert [file.name for file in (tmp_path / "bucket").iterdir()] == [".lease"]


def _refuses(storage: SweepStorage) -> bool:
    try:
        storage.before_writing()
    except StorageError:
        return True
    return False
