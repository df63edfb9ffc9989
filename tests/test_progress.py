"""A line now and then, where nobody watches a bar."""

from spd_ray.base import progress


def test_items_that_take_long_are_counted_and_the_last_one_is_told(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    seen = []
    for item in progress.followed("read back", ["a", "b", "c"]):
        seen.append(item)
        clock[0] += 6.0
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == ["read back: 2/3  6 s left", "read back: 3/3  0 s left"]
    assert list(progress.followed("at once", ["a", "b"])) == ["a", "b"]
    assert capsys.readouterr().err == ""
