"""The page: one self-contained index.html with the figures, their captions and a table of the trials."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from analysis import style
from analysis.tables import NoData, Tables, Trial, setting_of, status_counts

NONE = "–"


class Entry(NamedTuple):
    """A figure of the page: where its SVG lies and its caption, or (svg None) why there is none."""

    name: str
    title: str
    svg: Path | None
    text: str


def page(tables: Tables, entries: Sequence[Entry]) -> str:
    """The whole page as HTML, with nothing outside it."""
    name = escape(tables.folder.resolve().name)
    figures = "\n".join(_figure(entry) for entry in entries)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sweep {name}</title>
<style>{_CSS}</style>
</head>
<body>
<header>
<h1>Sweep {name}</h1>
{_summary(tables)}
</header>
<main>
<div class="figures">
{figures}
</div>
<h2>Trials</h2>
{_table(tables)}
{_errors(tables.trials)}
</main>
</body>
</html>
"""


def _summary(tables: Tables) -> str:
    """The setting, how many trials stand where, and the best student beside teacher and majority class."""
    lines = [f"<p>{escape(style.plural(len(tables.trials), 'trial'))}: {escape(status_counts(tables.trials))}.</p>"]
    if tables.trials:
        lines.insert(0, f"<p>{escape(style.describe(setting_of(tables.trials)))}</p>")
    try:
        best = tables.chosen(None)
    except NoData as reason:
        return "\n".join([*lines, f"<p>No best trial: {escape(str(reason))}.</p>"])
    cells = (
        ("best sparse student", _number(best.best_score, ".3f"), f"trial {best.trial_id}"),
        ("its sparsity", _number(best.achieved_sparsity, ".4f"), f"target {best.target_sparsity:g}"),
        ("dense teacher", _number(best.teacher_score, ".3f"), f"dev {style.metric_name(best.metric)}"),
        ("majority class", _number(best.majority_score, ".3f"), f"dev {style.metric_name(best.metric)}"),
    )
    tiles = "".join(
        f"<div><dt>{escape(label)}</dt><dd><b>{value}</b> <span>{escape(note)}</span></dd></div>"
        for label, value, note in cells
    )
    return "\n".join([*lines, f'<dl class="tiles">{tiles}</dl>'])


def _figure(entry: Entry) -> str:
    heading = f"<h2>{escape(entry.title)}</h2>"
    if entry.svg is None:
        return f'<figure id="{entry.name}">{heading}<p class="none">No figure: {escape(entry.text)}.</p></figure>'
    data = base64.b64encode(entry.svg.read_bytes()).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(entry.title)}">'
    return f'<figure id="{entry.name}">{heading}{image}<figcaption>{escape(entry.text)}</figcaption></figure>'


_HEADINGS = (
    ("trial", ""),
    ("status", ""),
    ("feasible", "a student at its target sparsity was scored"),
    ("p₀", "replacing probability in Stage I"),
    ("epochs I", "length of Stage I in epochs"),
    ("II", "length of Stage II in epochs"),
    ("III", "length of Stage III in epochs"),
    ("λ₀", "initial learning rate of Stage I"),
    ("λ₁", "initial learning rate of Stages II and III"),
    ("target", "target sparsity"),
    ("sparsity", "achieved by the best student"),
    ("best dev", "best dev score at the target sparsity"),
    ("train", "train score at the same step"),
    ("gap", "train minus dev"),
)


def _table(tables: Tables) -> str:
    """All trials, the best score first, those without one last."""
    head = "".join(f'<th scope="col" title="{escape(note)}">{escape(text)}</th>' for text, note in _HEADINGS)
    rows = "\n".join(_row(trial) for trial in ranked(tables.trials))
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
        '</div><p class="note">Sorted by the best dev score at the target sparsity; trials that were not finished at '
        "their target sparsity (grey) have no part in the figures that compare scores. Gap: train minus dev.</p>"
    )


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The eligible trials, the best score first, then the others, scored ones first."""

    def rank(trial: Trial) -> tuple[bool, float]:
        return (not trial.eligible, float("inf") if trial.best_score is None else -trial.best_score)

    return sorted(trials, key=rank)


def _row(trial: Trial) -> str:
    stage3 = trial.total_epochs - trial.stage1_epochs - trial.stage2_epochs
    cells = [
        trial.status,
        {True: "yes", False: "no", None: NONE}[trial.feasible],
        f"{trial.p0:.3g}",
        *(f"{epochs:.3g}" for epochs in (trial.stage1_epochs, trial.stage2_epochs, stage3)),
        style.short_rate(trial.stage1_lr),
        style.short_rate(trial.stage23_lr),
        f"{trial.target_sparsity:g}",
        _number(trial.achieved_sparsity, ".4f"),
        _number(trial.best_score, ".3f"),
        _number(trial.train_score, ".3f"),
        _number(trial.gap, "+.3f"),
    ]
    data = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    kind = "" if trial.comparable else ' class="out"'
    return f'<tr{kind}><th scope="row">{escape(trial.trial_id)}</th>{data}</tr>'


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form).replace("-", "−")


def _errors(trials: Sequence[Trial]) -> str:
    failed = [trial for trial in trials if trial.error]
    if not failed:
        return ""
    items = "".join(f"<li><b>{escape(trial.trial_id)}</b>: {escape(trial.error or '')}</li>" for trial in failed)
    return f"<h2>Errors</h2><ul>{items}</ul>"


_CSS = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header { margin-bottom: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; line-height: 1.3; margin: 0 0 .5rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1px; margin: 1rem 0 0;
  background: #ccc; border: 1px solid #ccc; }
.tiles div { background: #fff; padding: .5rem .75rem; }
.tiles dt { font-size: .85rem; color: #555; }
.tiles dd { margin: 0; }
.tiles b { font-size: 1.3rem; font-variant-numeric: tabular-nums; display: block; line-height: 1.3; }
.tiles span { color: #555; font-size: .85rem; overflow-wrap: anywhere; }
.figures { columns: 29rem 2; column-gap: 2.5rem; }
figure { margin: 0 0 2rem; break-inside: avoid; }
figure img { display: block; width: 100%; max-width: 34rem; height: auto; margin-bottom: .5rem; }
figcaption, .note { font-size: .875rem; color: #444; line-height: 1.45; overflow-wrap: anywhere; }
.none { padding: 1rem; background: #f4f4f4; border-left: 3px solid #999; }
.scroll { overflow-x: auto; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid #222; font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid #e4e4e4; }
tr > :nth-child(-n+3) { text-align: left; }
tr > :first-child { position: sticky; left: 0; background: #fff; }
tr.out > * { color: #767676; }
tbody th { font-weight: 600; }
"""
