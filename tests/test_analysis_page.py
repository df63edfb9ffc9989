"""The report: its files, the page, the command and its errors, on small sweeps written by hand."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from hand_made_sweep import trial, write_sweep

from analysis.__main__ import main
from analysis.errors import AnalysisError
from analysis.page import html
from analysis.page.table import Heading, Link, Table, format_markdown
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import TRIAL_SCHEMA
from spd_ray.records.trials import write_trials


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def test_the_report_holds_everything_inside(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sweep", str(sweep)]) == []
    out = sweep / "report"
    lines = capsys.readouterr().out.splitlines()
    written = sorted(line.removeprefix(f"wrote {out}/") for line in lines if line.startswith("wrote "))
    assert written == sorted(path.name for path in out.iterdir())
    assert {"fig04.png", "fig04.svg", "fig08.svg", "curves.svg", "claims.md", "tables.md", "index.html"} <= set(written)
    html = (out / "index.html").read_text()
    pictures = html.count('src="data:image/svg+xml;base64,') + html.count('<svg role="img"')
    assert pictures == sum(name.endswith(".svg") for name in written)
    assert "src=" not in html.replace('src="data:', "")
    links = re.findall(r' href="([^"]*)"', html)
    assert all(link.startswith("#") for link in links)
    places = re.findall(r' id="([^"]*)"', html)
    assert {unquote(link[1:]) for link in links} <= set(places)
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


SECTIONS = ["leaderboard", "the-search", "sparsity-size-and-speed", "more-about-these-trials", "trials", "paper"]


def section(html: str, name: str) -> str:
    return html.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_the_page_opens_on_the_leaderboard_by_sparsity(tmp_path: Path) -> None:
    records = [
        trial(0, 0, params={"p0": 0.2}, best_score=0.80, checkpoint="checkpoints/0-s0"),
        trial(0, 1, params={"p0": 0.2}, best_score=0.70, status="stopped"),
        trial(1, 0, params={"p0": 0.6}, best_score=0.75, checkpoint="checkpoints/1-s0"),
        trial(
            2, 0, params={"p0": 0.6}, best_score=0.90, target_sparsity=0.5, achieved_sparsity=0.5, mlflow_run_id="ab"
        ),
    ]
    write_trials(tmp_path, records)
    main(["--sweep", str(tmp_path)])
    html = (tmp_path / "report" / "index.html").read_text()
    assert re.findall('<section id="(.*?)">', html) == SECTIONS
    low, high = section(html, "leaderboard").split("<h3>")[1:]
    assert (low.splitlines()[0], high.splitlines()[0]) == ("Sparsity 0.5</h3>", "Sparsity 0.9</h3>")
    name = tmp_path.name
    rows = re.findall(r"<tr data-run.*</tr>", high)
    assert len(rows) == 2
    assert rows[0].startswith(
        f'<tr data-run="run:{name}/0/"><th scope="row">0-s0</th><td>0.800</td><td>0.750 ± 0.071</td>'
    )
    assert '<a href="../checkpoints/0-s0">0-s0</a>' in rows[0]
    assert f'<a href="#run%3A{name}/0/0-s0">below</a>' in rows[0]
    assert f'id="run:{name}/0/0-s0"' in section(html, "trials")
    tiles = html.partition('<dl class="tiles">')[2].partition("</dl>")[0]
    assert re.findall("<dt>(.*?)</dt>", tiles) == [
        "best at sparsity 0.5", "best at sparsity 0.9", "dense teacher", "majority class",
    ]  # fmt: skip
    assert '<a href="../checkpoints/0-s0">checkpoint 0-s0</a>' in tiles


def test_a_line_of_a_picture_and_a_row_have_the_same_mark(sweep: Path) -> None:
    main(["--sweep", str(sweep)])
    html = (sweep / "report" / "index.html").read_text()
    picture = html.partition('<figure id="best_so_far">')[2].partition("</figure>")[0]
    keys = re.findall('data-run="([^"]*)"', picture)
    assert keys == [f"run:{sweep.name}/{c}/{c}-s{s}" for c in (0, 1) for s in (0, 1)]
    assert set(keys) <= set(re.findall('<tr data-run="([^"]*)"', section(html, "trials")))
    assert "<metadata>" not in html


def test_what_is_the_papers_is_folded_unless_its_sweep_is_there(sweep: Path) -> None:
    main(["--sweep", str(sweep)])
    html = (sweep / "report" / "index.html").read_text()
    assert section(html, "paper").lstrip().splitlines()[1].startswith("<details><summary>None of the paper's sweeps")
    assert html.index('id="leaderboard"') < html.index('id="paper"')
    sweep.rename(sweep.parent / "fig08")
    try:
        main(["--sweep", str(sweep.parent / "fig08")])
        html = (sweep.parent / "fig08" / "report" / "index.html").read_text()
    finally:
        (sweep.parent / "fig08").rename(sweep)
    paper = section(html, "paper")
    assert paper.lstrip().splitlines()[1] == "<h3>Claims</h3>"
    unfolded = re.sub("<details>.*?</details>", "", paper, flags=re.DOTALL)
    assert re.findall('<figure id="(.*?)">', unfolded) == ["fig04", "fig08"]


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
    assert "#run%3A" not in html


def test_half_a_sweep_gives_half_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trials(tmp_path, [trial(0, status="running", feasible=None, best_score=None), trial(1, status="waiting")])
    out = tmp_path / "out"
    out.mkdir()
    (out / "fig08.png").write_bytes(b"of an earlier sweep")
    assert main(["--sweep", str(tmp_path), "--out", str(out)]) == []
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("no ") for line in lines) == 28
    assert sorted(path.name for path in out.iterdir()) == ["claims.md", "index.html", "tables.md"]
    html = (out / "index.html").read_text()
    assert "search_spaces/paper/fig08.yaml makes the data" in html
    assert html.count("</b>: ") == 28
    assert "(1 running, 1 waiting)" in html


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


def test_tables_escape_and_mark() -> None:
    rows = [("<x>", Link("run", "https://h/#/r")), ("y|z", "1")]
    table = Table([Heading("a", "what"), Heading("b")], rows, ["", "out"])
    text = html.render(html.Page(title="<t>", sweeps=table))
    assert "<title>&lt;t&gt;</title>" in text
    assert '<th scope="col" title="what">a</th>' in text
    assert '&lt;x&gt;</th><td><a href="https://h/#/r">run</a></td>' in text
    assert '<tr class="out"><th scope="row">y|z</th>' in text
    assert "| y\\|z | 1 |" in format_markdown(table)


def run(*arguments: str) -> tuple[int, list[str]]:
    """The command's exit code and the lines of its stderr."""
    done = subprocess.run([sys.executable, "-m", "analysis", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()


def test_the_command_refuses_in_one_line_with_code_2(tmp_path: Path) -> None:
    code, lines = run("--sweep", str(tmp_path / "nowhere"))
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: {tmp_path / 'nowhere'}: no such folder")


def test_the_command_names_a_broken_part(sweep: Path) -> None:
    part = layout.step_part(sweep, "1-s1", 4, 8)
    part.write_bytes(part.read_bytes()[:-40])
    code, lines = run("--sweep", str(sweep))
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: {part}: cannot be read")
    assert (sweep / "report" / "fig08.svg").exists()
    assert not (sweep / "report" / "fig04.svg").exists()


def test_a_report_that_cannot_be_written(sweep: Path) -> None:
    (sweep / "taken").write_text("a file")
    with pytest.raises(AnalysisError, match="taken: the report cannot be written there"):
        main(["--sweep", str(sweep), "--out", str(sweep / "taken")])


REFUSING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("spd_ray", "torch", "ray", "mlflow", "optuna", "sklearn", "pandas"):
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
