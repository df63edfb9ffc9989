"""Reading a sweep, the page, the command and its errors, on small sweeps written by hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made_sweep import P, batch, evaluation, trial, write_steps, write_sweep
from pyarrow import fs

from analysis.__main__ import main
from analysis.errors import AnalysisError
from analysis.figures import fig04
from analysis.numbers.figure_data import showcase
from analysis.reading import sweeps as tables
from analysis.reading.folders import Folder, open_folder
from analysis.reading.sweeps import Tables, read_sweeps, read_tables
from analysis.reading.trials import Trial
from spd_ray.records import STEP_SCHEMA, TRIAL_SCHEMA, compact_steps, step_part, write_parquet, write_trials


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def chosen(folder: Path, trial_id: str | None = None) -> Trial:
    return showcase([read_tables(folder)], trial_id)[1]


def test_best_is_the_best_feasible_trial_that_did_not_fail(tmp_path: Path) -> None:
    write_trials(
        tmp_path,
        [
            trial(0, best_score=0.70),
            trial(1, best_score=0.80),
            trial(2, best_score=0.99, feasible=False),
            trial(3, best_score=0.98, status="failed"),
            trial(4, best_score=0.97, status="running"),
            trial(5, best_score=None),
            trial(6, best_score=0.80),
        ],
    )
    assert chosen(tmp_path).trial_id == "1-s0"
    write_trials(tmp_path, [trial(0, best_score=0.70), trial(1, best_score=0.80, status="stopped")])
    assert chosen(tmp_path).trial_id == "1-s0"


def test_chosen_by_id(sweep: Path) -> None:
    assert chosen(sweep, "0-s1").seed == 1
    assert chosen(sweep, f"{sweep.name}/0-s1").seed == 1
    with pytest.raises(AnalysisError, match="no sweep 'nowhere'"):
        chosen(sweep, "nowhere/0-s1")
    with pytest.raises(AnalysisError, match="no trial '9-s9'; there are, for example, 0-s0, 0-s1, 1-s0, 1-s1"):
        chosen(sweep, "9-s9")


def test_steps_join_parts_in_order_without_evaluations(sweep: Path) -> None:
    rows = read_tables(sweep).steps("1-s1", ["p", "step"], "batch", "loss")
    assert rows["step"].tolist() == list(range(8))
    assert rows["p"].tolist() == P  # exact in float32
    dev = read_tables(sweep).steps("1-s1", ["step", "value"], "dev", "accuracy")
    assert dict(zip(dev["step"].tolist(), dev["value"].tolist(), strict=True)) == {4: 0.7, 6: 0.86, 8: 0.85}


def test_a_step_in_two_parts_counts_once_as_the_later_part_has_it(tmp_path: Path) -> None:
    write_steps(tmp_path, "0-s0", 0, 4, [batch(step, value=1.0) for step in range(4)])
    write_steps(tmp_path, "0-s0", 2, 6, [batch(step, value=2.0) for step in range(2, 6)])
    rows = Tables(open_folder(tmp_path), ()).steps("0-s0", ["step", "value"], "batch", "loss")
    assert rows["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["value"].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]


def test_a_part_that_is_being_written_is_not_read(sweep: Path) -> None:
    (sweep / "steps" / "trial=1-s1" / ".half.tmp").write_bytes(b"PAR1")
    assert len(read_tables(sweep).steps("1-s1", ["step"], "batch", "loss")["step"]) == 8


def test_missing_values_are_nan(tmp_path: Path) -> None:
    write_steps(tmp_path, "0-s0", 0, 2, [batch(0), batch(1, p=None)])
    p = Tables(open_folder(tmp_path), ()).steps("0-s0", ["p"], "batch", "loss")["p"]
    assert p[0] == 0.5
    assert np.isnan(p[1])


def test_the_report_holds_everything_inside(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sweep", str(sweep)]) == []
    out = sweep / "report"
    lines = capsys.readouterr().out.splitlines()
    written = sorted(line.removeprefix(f"wrote {out}/") for line in lines if line.startswith("wrote "))
    assert written == sorted(path.name for path in out.iterdir())
    assert {"fig04.png", "fig04.svg", "fig08.svg", "curves.svg", "claims.md", "tables.md", "index.html"} <= set(written)
    html = (out / "index.html").read_text()
    assert html.count('src="data:image/svg+xml;base64,') == sum(name.endswith(".svg") for name in written)
    assert "src=" not in html.replace('src="data:', "")
    assert "href=" not in html
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    main(["--sweep", str(sweep)])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_the_table_is_sorted_and_says_the_gap(sweep: Path) -> None:
    write_trials(sweep, [trial(0, best_score=0.7), trial(1, best_score=0.9, train_score=0.85),
                         trial(2, status="failed", best_score=None, error="<broken> & lost")])  # fmt: skip
    main(["--sweep", str(sweep)])
    html = (sweep / "report" / "index.html").read_text()
    assert html.index(">1-s0</th>") < html.index(">0-s0</th>") < html.index(">2-s0</th>")
    assert "<td>0.900</td><td>0.850</td><td>−0.050</td>" in html
    assert "&lt;broken&gt; &amp; lost" in html


def test_links_lead_to_runs_and_checkpoints(tmp_path: Path) -> None:
    records = [
        trial(0, mlflow_run_id="abcdef0123", checkpoint="checkpoints/0-s0"),
        trial(1, mlflow_run_id="fedcba", checkpoint="s3://bucket/1-s0"),
    ]
    write_trials(tmp_path / "a sweep", records)
    main(["--sweep", str(tmp_path / "a sweep"), "--out", str(tmp_path / "out"), "--mlflow", "http://localhost:5000/"])
    html = (tmp_path / "out" / "index.html").read_text()
    assert '<a href="http://localhost:5000/#/runs/abcdef0123">abcdef01</a>' in html
    assert '<a href="../a%20sweep/checkpoints/0-s0">open</a>' in html
    assert '<span title="s3://bucket/1-s0">open</span>' in html


def test_the_tracking_server_is_that_of_the_sweep(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0, mlflow_run_id="abcdef0123")])
    (tmp_path / "sweep.yaml").write_text(
        "spec:\n  study:\n    sampler: random\n    trials: 8\n  tracking:\n    uri: http://head:5000\n    name: x\n"
    )
    found = read_tables(tmp_path)
    assert (found.sampler, found.tracking_uri) == ("random", "http://head:5000")
    (tmp_path / "sweep.yaml").write_text("spec:\n  tracking:\n    uri: null\n  other:\n    sampler: grid\n")
    found = read_tables(tmp_path)
    assert (found.sampler, found.tracking_uri) == (None, None)


def test_half_a_sweep_gives_half_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trials(tmp_path, [trial(0, status="running", feasible=None, best_score=None), trial(1, status="waiting")])
    out = tmp_path / "out"
    out.mkdir()
    (out / "fig08.png").write_bytes(b"of an earlier sweep")
    assert main(["--sweep", str(tmp_path), "--out", str(out)]) == []
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("no ") for line in lines) == 22
    assert sorted(path.name for path in out.iterdir()) == ["claims.md", "index.html", "tables.md"]
    html = (out / "index.html").read_text()
    assert "search_spaces/paper/fig08.yaml makes the data" in html
    assert html.count("No figure: ") == 22
    assert "(1 running, 1 waiting)" in html


def test_runs_are_found_two_levels_deep_and_named_by_their_folder(tmp_path: Path) -> None:
    for place in ("b", "x/a", "x/y/too_deep", ".hidden"):
        write_trials(tmp_path / place, [trial(0)])
    problems: list[str] = []
    assert [sweep.name for sweep in read_sweeps(tmp_path, problems.append)] == ["a", "b"]
    assert [sweep.name for sweep in read_sweeps(tmp_path / "b", problems.append)] == ["b"]
    assert problems == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnalysisError, match="empty: holds no sweep"):
        read_sweeps(tmp_path / "empty", problems.append)


def test_a_uri_is_read_as_a_path_is(sweep: Path, tmp_path: Path) -> None:
    problems: list[str] = []
    (found,) = read_sweeps(sweep.as_uri(), problems.append)
    assert found.trials == read_tables(sweep).trials
    assert found.steps("1-s1", ["step"], "batch", "loss")["step"].tolist() == list(range(8))
    assert found.evaluations.of("1-s1", "dev", "accuracy")[1].tolist() == [0.7, 0.86, 0.85]
    with pytest.raises(AnalysisError, match="--out is needed"):
        main(["--runs", sweep.as_uri()])
    with pytest.raises(AnalysisError, match="nowhere://x: cannot be opened"):
        read_tables("nowhere://x")


def test_another_file_system_is_read_as_this_machines_is(sweep: Path) -> None:
    remote = fs._MockFileSystem()
    fs.copy_files(str(sweep), "bucket/runs/one", source_filesystem=fs.LocalFileSystem(), destination_filesystem=remote)
    problems: list[str] = []
    (found,) = read_sweeps(Folder(remote, "bucket/runs", "s3://bucket/runs"), problems.append)
    assert found.name == "one"
    assert found.evaluations.of("1-s1", "train", "accuracy")[1].tolist() == [0.9]
    assert fig04.compute([found]).p.tolist() == P


def test_evaluations_of_a_restarted_trial_count_once_as_the_later_part_has_them(tmp_path: Path) -> None:
    write_trials(tmp_path, [trial(0), trial(1)])
    write_steps(tmp_path, "0-s0", 0, 4, [batch(0), evaluation(2, "dev", 0.1), evaluation(4, "dev", 0.2)])
    write_steps(tmp_path, "0-s0", 2, 6, [evaluation(4, "dev", 0.3), evaluation(2, "train", 0.8)])
    write_steps(tmp_path, "1-s0", 0, 4, [evaluation(4, "dev", 0.9), evaluation(4, "dev", 1.5, metric="loss")])
    found = read_tables(tmp_path).evaluations
    assert [part.tolist() for part in found.of("0-s0", "dev", "accuracy")] == [[2, 4], [0.1, 0.3]]
    assert [part.tolist() for part in found.of("0-s0", "train", "accuracy")] == [[2], [0.8]]
    assert [part.tolist() for part in found.of("1-s0", "dev", "loss")] == [[4], [1.5]]
    assert [part.tolist() for part in found.of("2-s0", "dev", "accuracy")] == [[], []]


def test_a_trial_whose_parts_become_one_while_they_are_read_is_read_once_and_whole(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = tables._scan, []

    def meanwhile(steps: Folder, parts: list[Folder]) -> list[pa.Table | None]:
        calls.append(len(parts))
        compact_steps(sweep, "1-s1")  # listed before, gone or about to go when they are opened
        return read(steps, parts)

    before = read_tables(sweep).evaluations
    monkeypatch.setattr(tables, "_scan", meanwhile)
    found = read_tables(sweep).evaluations
    assert calls == [2, 1]
    assert found.keys == before.keys
    assert found.value.tolist() == before.value.tolist()


@pytest.mark.parametrize("removed", [(), ((0, 4),), ((0, 4), (4, 8))])
def test_a_kill_between_the_whole_and_its_parts_changes_nothing_that_is_read(removed: tuple, sweep: Path) -> None:
    def everything() -> tuple:
        of_all, of_one = read_tables(sweep), read_tables(sweep).steps("1-s1", ["p", "step"], "batch", "loss")
        return of_all.evaluations.keys, of_all.evaluations.value.tolist(), of_one["p"].tolist(), of_one["step"].tolist()

    before = everything()
    parts = {span: step_part(sweep, "1-s1", *span).read_bytes() for span in ((0, 4), (4, 8))}
    compact_steps(sweep, "1-s1")
    for span in set(parts) - set(removed):
        step_part(sweep, "1-s1", *span).write_bytes(parts[span])
    assert everything() == before
    compact_steps(sweep, "1-s1")
    assert [file.name for file in (sweep / "steps" / "trial=1-s1").iterdir()] == ["00000000-00000008.parquet"]
    assert everything() == before


def test_a_sweep_that_goes_away_while_it_is_read(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = tables._scan

    def replaced(steps: Folder, parts: list[Folder]) -> list[pa.Table | None]:
        shutil.rmtree(sweep / "steps")
        return read(steps, parts)

    monkeypatch.setattr(tables, "_scan", replaced)
    assert read_tables(sweep).evaluations.keys == {}


def test_a_broken_sweep_is_one_line_and_the_others_are_drawn(tmp_path: Path) -> None:
    write_sweep(tmp_path / "good")
    write_parquet([trial(0)], TRIAL_SCHEMA.with_metadata({"spd_ray.schema_version": "1"}),
                  tmp_path / "old" / "trials.parquet")  # fmt: skip
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "trials.parquet").write_bytes(b"PAR1")
    problems = main(["--runs", str(tmp_path)])
    places = [f"{tmp_path}/{name}/trials.parquet" for name in ("cut", "old")]
    assert [line.split(": ")[0] for line in problems] == places
    assert "schema version 1" in problems[1]
    assert (tmp_path / "report" / "fig08.svg").exists()
    html = (tmp_path / "report" / "index.html").read_text()
    assert html.count('class="problem"') == 2


def run(*arguments: str) -> tuple[int, list[str]]:
    """The command's exit code and the lines of its stderr."""
    done = subprocess.run([sys.executable, "-m", "analysis", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()


def test_the_command_refuses_in_one_line_with_code_2(tmp_path: Path) -> None:
    code, lines = run("--sweep", str(tmp_path / "nowhere"))
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: {tmp_path / 'nowhere'}: no such folder")


def test_the_command_names_a_broken_part(sweep: Path) -> None:
    part = step_part(sweep, "1-s1", 4, 8)
    part.write_bytes(part.read_bytes()[:-40])
    code, lines = run("--sweep", str(sweep))
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: {part}: cannot be read")
    assert (sweep / "report" / "fig08.svg").exists()
    assert not (sweep / "report" / "fig04.svg").exists()


def test_no_trials_file(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"holds no trials\.parquet"):
        read_tables(tmp_path)


def test_a_broken_trials_file(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").write_bytes(b"PAR1 but nothing more")
    with pytest.raises(AnalysisError, match=r"trials\.parquet: cannot be read as a sweep's Parquet file"):
        read_tables(tmp_path)


@pytest.mark.parametrize(("metadata", "found"), [({"spd_ray.schema_version": "1"}, "1"), (None, "none")])
def test_another_schema_version(metadata: dict[str, str] | None, found: str, tmp_path: Path) -> None:
    write_parquet([trial(0)], TRIAL_SCHEMA.with_metadata(metadata), tmp_path / "trials.parquet")
    with pytest.raises(AnalysisError, match=rf"trials\.parquet: schema version {found} .*not 2"):
        read_tables(tmp_path)


def test_another_schema_version_of_the_steps(sweep: Path) -> None:
    write_parquet(
        [batch(0)], STEP_SCHEMA.with_metadata({"spd_ray.schema_version": "0"}), step_part(sweep, "1-s1", 0, 1)
    )
    with pytest.raises(AnalysisError, match=r"00000000-00000001\.parquet: schema version 0 .*not 2"):
        fig04.compute([read_tables(sweep)])


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    table = pa.table({"trial_id": ["0-s0"]}).replace_schema_metadata({"spd_ray.schema_version": "2"})
    pq.write_table(table, tmp_path / "trials.parquet")
    with pytest.raises(AnalysisError, match=r"trials\.parquet: cannot be read .*configuration"):
        read_tables(tmp_path)


def test_a_report_that_cannot_be_written(sweep: Path) -> None:
    (sweep / "taken").write_text("a file")
    with pytest.raises(AnalysisError, match="taken: the report cannot be written there"):
        main(["--sweep", str(sweep), "--out", str(sweep / "taken")])


REFUSING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("spd_ray", "torch", "ray", "mlflow", "optuna", "scipy", "sklearn", "pandas", "yaml"):
            raise ImportError(name + " is refused")
sys.meta_path.insert(0, Refuse())
import analysis.__main__
analysis.__main__.main(["--sweep", sys.argv[1]])
try:
    import spd_ray
except ImportError as error:
    print(error)
"""


def test_it_runs_where_spd_ray_torch_ray_and_mlflow_are_not(sweep: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING, str(sweep)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [f"wrote {sweep / 'report' / 'index.html'}", "spd_ray is refused"]
