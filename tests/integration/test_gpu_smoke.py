"""The script for a GPU, in its small form on whatever is here, so that it runs when there is one."""

import pytest

from benchmarks import gpu_smoke


def test_every_check_runs_or_is_left_out_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_smoke.main(["--small"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("bit-equal") == 2
    assert printed.count(" ok ") + printed.count("left out") == len(list(gpu_smoke.all_checks(gpu_smoke.SMALL)))
    assert "FAILED" not in printed


def test_a_check_that_fails_is_a_line_and_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = {check.name: check for check in gpu_smoke.all_checks(gpu_smoke.SMALL)}
    monkeypatch.setattr(gpu_smoke, "load_state", lambda engine, folder: None)
    monkeypatch.setattr(gpu_smoke, "all_checks", lambda scale: [checks["resumed, fp32"], checks["overflow, fp16"]])
    assert gpu_smoke.main(["--small"]) == 1
    printed = capsys.readouterr().out
    assert "not bit-equal" in printed
    assert "attempts skipped" in printed
