"""What the doctor says of each thing that can be wrong; all of it, with Ray, is in integration/test_doctor_runs.py."""

import http.server
import importlib.util
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spd_ray import doctor
from spd_ray.base import network
from spd_ray.base.errors import run_main
from spd_ray.checks import environment, nodes
from spd_ray.checks.finding import FAILED, OK, WARNING, Finding, run_check
from spd_ray.checks.nodes import NodeReport
from spd_ray.config.execution import ResourcesConfig


def test_an_object_store_takes_and_gives_or_is_said_to_refuse(tmp_path):
    assert environment.check_storage(tmp_path.as_uri()).level == OK
    (tmp_path / "file").write_text("in the way")
    found = environment.check_storage((tmp_path / "file").as_uri())
    assert (found.level, "mend credentials" in str(found.mend)) == (FAILED, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_versions_are_those_of_the_constraints():
    assert environment.check_versions().level == OK


@pytest.mark.parametrize(
    ("pins", "level", "said"),
    [
        ("ray==0.1\n", WARNING, "ray 2."),
        ("Ray==0.1\nunrelated==7\n", WARNING, "(tested: 0.1)"),
        ("", OK, "no constraints.txt here"),
    ],
)
def test_a_version_that_was_not_tested_is_a_warning(monkeypatch, tmp_path, pins, level, said):
    (tmp_path / "constraints.txt").write_text(pins)
    monkeypatch.setattr(environment, "CONSTRAINTS", tmp_path / "constraints.txt")
    found = environment.check_versions()
    assert found.level == level
    assert said in found.text


def test_what_is_missing_or_too_old_has_failed(monkeypatch):
    installed = {"torch": None, "optuna": "1.0"}
    real = nodes.version_of
    monkeypatch.setattr(environment, "version_of", lambda package: installed.get(package, real(package)))
    found = environment.check_versions()
    assert found.level == FAILED
    assert "torch>=2.8 (here: none)" in found.text
    assert "optuna>=5 (here: 1.0)" in found.text
    assert "pip install -c constraints.txt" in found.mend


def test_the_token_file_is_wanted_and_wanted_private(monkeypatch, tmp_path):
    token = tmp_path / "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert "missing" in environment.check_token_file().text
    token.touch(mode=0o600)
    assert "empty" in environment.check_token_file().text
    token.write_text("secret-in-a-file")
    assert environment.check_token_file().level == OK
    token.chmod(0o644)
    assert environment.check_token_file() == Finding(
        WARNING, "token file", f"{token} is readable by others", f"chmod 600 {token}"
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-in-the-environment")
    assert environment.check_token_file().level == WARNING


def test_storage_is_tried_and_left_as_it_was(tmp_path):
    assert environment.check_storage(str(tmp_path / "not/there/yet")).level == OK
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    found = environment.check_storage(str(tmp_path / "file"))
    assert (found.level, "Not a directory" in found.text) == (FAILED, True)
    assert environment.check_storage("/proc/nothing").level == FAILED


def test_little_space_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "LITTLE_SPACE", 2**62)
    assert environment.check_storage(str(tmp_path)).level == WARNING


@contextmanager
def server(status: int, version: str = "3.17.2", path: str = "") -> Iterator[str]:
    """A server that knows its version and answers all else with `status`, behind `path`; its address with a login."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = version.encode() if self.path == f"{path}/version" else b"{}"
            known = 200 if self.path == f"{path}/version" else status
            self.send_response(known if self.path.startswith(f"{path}/") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://user:hunter2@127.0.0.1:{httpd.server_address[1]}{path}"
        httpd.shutdown()


@pytest.mark.parametrize(
    ("status", "level", "mend"),
    [
        (200, OK, ""),
        (401, FAILED, "MLFLOW_TRACKING_USERNAME"),
        (403, FAILED, "--allowed-hosts 127.0.0.1:"),
        (404, FAILED, "is it an MLflow server?"),
    ],
)
def test_an_mlflow_server_is_asked(status, level, mend):
    with server(status) as uri:
        found = environment.check_mlflow(uri)
    assert found.level == level
    assert mend in found.mend
    assert "hunter2" not in str(found)


def test_an_mlflow_server_may_lie_behind_a_path():
    with server(200, path="/mlflow") as uri:
        assert environment.check_mlflow(f"{uri}/").level == OK


def test_an_mlflow_server_of_another_major_version_has_failed():
    with server(200, version="2.9.0") as uri:
        assert "is version 2.9.0, the client" in environment.check_mlflow(uri).text


def test_an_mlflow_server_that_is_not_there_has_failed():
    found = environment.check_mlflow("http://127.0.0.1:1")
    assert (found.level, "refused" in found.text) == (FAILED, True)


def test_an_mlflow_store_is_opened(tmp_path):
    store = tmp_path / "mlflow.db"
    assert "not there yet" in environment.check_mlflow(f"sqlite:///{store}").text
    assert not store.exists()
    store.write_text("no database at all, but some words that are longer than a header")
    assert environment.check_mlflow(f"sqlite:///{store}").level == FAILED
    store.unlink()
    with sqlite3.connect(store) as database:
        database.execute("create table experiments (name text)")
    assert environment.check_mlflow(f"sqlite:///{store}").level == OK
    assert environment.check_mlflow("postgresql://somewhere").level == WARNING
    assert environment.check_mlflow("mlruns").text.startswith("mlruns: cannot be checked here")


def node(number: int, **changes: object) -> NodeReport:
    versions = {"Python": "3.11.7", **dict.fromkeys(nodes.PACKAGES, "1.0")}
    right = NodeReport(f"id{number}", f"10.0.0.{number}", versions, 4, 0, [], False, True, "token", True)
    return right._replace(**changes)


def test_nodes_of_one_kind_are_fine(tmp_path):
    both = [node(1), node(2, cpus=8)]
    for report in both:
        (tmp_path / report.node_id).touch()
    assert nodes.check_nodes(both).text == "2 (10.0.0.1, 10.0.0.2), same versions"
    assert nodes.check_shared(both, str(tmp_path), str(tmp_path)).level == OK
    assert nodes.check_token(both, "auto").level == OK
    assert nodes.check_devices(both).text == "12 CPUs, no GPU (trials run on CPUs)"
    assert nodes.check_compiler(both).level == OK


def test_what_is_wrong_with_a_node_names_it(tmp_path):
    other = node(2, versions=node(2).versions | {"torch": "2.0", "ray": None}, auth="", builds=False, ray_gpus=1)
    both = [node(1), other]
    (tmp_path / "id1").touch()
    assert nodes.check_nodes(both).text == "10.0.0.2: ray missing (here 1.0), torch 2.0 (here 1.0)"
    assert (
        "not shared with, or not writable on, 10.0.0.2" in nodes.check_shared(both, str(tmp_path), str(tmp_path)).text
    )
    assert nodes.check_token(both, "auto").level == FAILED
    assert nodes.check_token(both, None).level == WARNING
    assert nodes.check_devices(both).text == "10.0.0.2: Ray counts 1 GPUs, torch sees 0"
    found = [nodes.check_compiler(both, ranks).level for ranks in (None, 1, 2)]
    assert found == [WARNING, WARNING, FAILED]


def test_where_layers_are_compiled_every_machine_needs_a_compiler(monkeypatch, tmp_path):
    assert nodes.check_layers({"10.0.0.1": True, "10.0.0.2": True}).level == OK
    found = nodes.check_layers({"10.0.0.1": True, "10.0.0.2": False})
    assert found.level == FAILED
    assert found.text.startswith("engine.compile_layers: 10.0.0.2: no C++ compiler (g++, or what CXX names)")
    monkeypatch.setenv("CXX", sys.executable)
    assert nodes.compiles_layers()
    monkeypatch.setattr(nodes, "NVIDIA", tmp_path)
    assert nodes.compiles_layers() == (importlib.util.find_spec("triton") is not None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not nodes.compiles_layers()


def test_gpus_are_counted_by_name_and_need_no_compiler():
    gpus = [node(1, gpus=["A10G"], ray_gpus=1, builds=False), node(2, gpus=["A10G"], ray_gpus=1)]
    assert nodes.check_devices(gpus).text == "8 CPUs, 2 x A10G"
    assert nodes.check_compiler(gpus, ranks=2).level == WARNING
    assert nodes.check_devices([node(1, nvidia=True)]).level == FAILED


def test_what_a_trial_asks_for_is_there_or_named():
    asked = ResourcesConfig(workers=2, cpus_per_worker=2, gpus_per_worker=1)
    assert nodes.check_resources(asked, {"CPU": 9, "GPU": 4}).text.endswith("there are 9 and 4: 2 trials at once")
    found = nodes.check_resources(asked, {"CPU": 9, "GPU": 1})
    assert (found.level, found.text) == (FAILED, "resources: a trial wants 4 CPUs and 2 GPUs, but there are 9 and 1")


def test_a_cache_that_cannot_be_written_has_failed(monkeypatch, tmp_path):
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path / "cache"))
    assert environment.check_cache().level == OK
    monkeypatch.setenv("SPD_RAY_CACHE", "/proc/nowhere")
    found = environment.check_cache()
    assert (found.level, found.mend) == (FAILED, "set SPD_RAY_CACHE to another folder")
    assert found.text.startswith("/proc/nowhere: cannot be written (")
    assert not (tmp_path / "cache").exists()


def test_the_interface_of_an_address():
    assert network.interface_of("127.0.0.1") == "lo"
    assert network.collective_interfaces("127.0.0.1") == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}
    with pytest.raises(ValueError, match="no network interface"):
        network.interface_of("198.51.100.1")


def test_secrets_are_struck_out_of_any_line(monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token-value")
    doctor.print_finding(Finding(FAILED, "ray", "token-value and\npass-value", "type token-value"), ["pass-value", ""])
    assert capsys.readouterr().out == "failed   ray         *** and ***; mend: type ***\n"


def test_an_unexpected_error_is_a_finding():
    found = run_check("thing", lambda: [][0])
    assert found == Finding(FAILED, "thing", "IndexError: list index out of range", "see the error")


@pytest.mark.parametrize(
    "words",
    [["--address", "somewhere"], ["--address", "ray://host:10001"], ["--address", ":6379"], ["--mlflow", "localhost"]],
)
def test_bad_arguments_are_one_line_and_code_2(capsys, words):
    with pytest.raises(SystemExit) as exit_:
        run_main(lambda: doctor.main(words))
    lines = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {words[0]} {words[1]}: ")


def test_the_doctor_starts_without_heavy_packages():
    code = "import sys, spd_ray.doctor; sys.exit(bool({'ray', 'torch', 'mlflow', 'deepspeed'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
