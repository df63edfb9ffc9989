"""What a person sees while a sweep runs and when it ends: a live table on a terminal, lines elsewhere.

Why so: docs/decisions.md #signs-of-life.
"""

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spd_ray.checks.room import in_words
from spd_ray.records.schema import TrialRecord
from spd_ray.study.ledger import Ledger
from spd_ray.trials.signs import Recording, Sign, read_signs

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_LOOKS = 2.0  # for what a line would say
SECONDS_BETWEEN_TABLES = 0.5
SHOWN = ("stage", "budget", "sparsity", "score", "best_score", "train_score_now", "wall_seconds")  # in a row
MOST_IN_A_LINE = 8
ROMAN = {1: "I", 2: "II", 3: "III"}


class SweepDisplay:
    """The live table of running and ended trials; `update` redraws it, or prints a line now and then."""

    def __init__(self, ledger: Ledger, console: Console) -> None:
        self.ledger = ledger
        self.console = console
        self.standings: dict[str, dict[str, Any]] = {}  # the newest result of every trial of this session
        self.signs: dict[str, Sign | Recording] = {}  # the newest of every running trial that is shown
        self._first_steps: tuple[float, float] | None = None  # when they were seen, and the work done by then
        self._last_look = self._last_line = 0.0
        self._said_recorded: set[str] = set()
        self._said: dict[str, tuple[str, int]] = {}  # what the last line told
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "SweepDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.update(self.table(), refresh=True)
            self._live.stop()

    def update(self) -> None:
        """Redraw the table, or print a line, if it is time again and, for a line, if something has happened."""
        now = time.monotonic()
        if now - self._last_look < (SECONDS_BETWEEN_TABLES if self._live else SECONDS_BETWEEN_LOOKS):
            return
        self._last_look = now
        shown = self._running()[: self._most_running() if self._live else MOST_IN_A_LINE]
        self.signs = read_signs(trial.trial_id for trial in shown)
        if self._live:
            self._live.update(self.table(), refresh=True)
        elif shown and self._is_news(now):
            running = [_running_text(t, self.standings.get(t.trial_id), self.signs.get(t.trial_id)) for t in shown]
            others = len(self.ledger.running) - len(shown)
            running += [f"{others} more"] if others else []
            self.console.print("; ".join(running), "|", self._summary_line(), soft_wrap=True)

    def _is_news(self, now: float) -> bool:
        """Whether a line would say something new, and it is time for one; what no trial did before is said at once."""
        news = {trial_id: self._progress_of(trial_id) for trial_id in self.ledger.running}
        first = {what for what, _ in news.values()} - {what for what, _ in self._said.values()} - {"starts"}
        if news == self._said or not (first or now - self._last_line >= SECONDS_BETWEEN_LINES):
            return False
        self._said, self._last_line = news, now
        return True

    def _progress_of(self, trial_id: str) -> tuple[str, int]:
        """What a trial does, and how far it is."""
        sign = self.signs.get(trial_id)
        if isinstance(sign, Recording):
            return "records", sign.examples
        step = self._step_of(trial_id)
        return ("trains" if step else "starts"), step

    def _step_of(self, trial_id: str) -> int:
        """The last step that is known of a trial."""
        sign = self.signs.get(trial_id)
        return max(sign.step if isinstance(sign, Sign) else 0, self.standings.get(trial_id, {}).get("step", 0))

    def say_recorded(self, recorded: dict[str, Any] | None) -> None:
        """Say what a trial has found recorded of the teacher's outputs, each kind once."""
        if not recorded or not recorded["examples"]:
            return
        line = _recorded_line(**recorded)
        if line not in self._said_recorded:
            self._said_recorded.add(line)
            self.console.print(line, soft_wrap=True)

    def end(self, trial_id: str) -> None:
        """Show that a trial has ended; what its row does not show is forgotten."""
        standing = self.standings.get(trial_id, {})
        self.standings[trial_id] = {name: standing[name] for name in SHOWN if name in standing}
        if self._live:
            self.update()
        else:
            line = _ended_line(self.ledger.trials[trial_id])
            self.console.print(line, self._summary_line(), soft_wrap=True, markup=False)

    def table(self) -> Group:
        """The ended trials, best first, and the running ones."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in (
            "trial",
            "method",
            "status",
            "stage",
            "budget",
            "step",
            "steps/s",
            "loss",
            "sparsity",
            "now",
            "best",
            "train",
            "p0",
            "seconds",
        ):
            table.add_column(title, justify="left" if title in ("trial", "method", "status", "stage") else "right")
        running = self._running()[: self._most_running()]
        room = max(5, self.console.height - 8 - len(running))
        for trial in [*running, *self.ledger.ended_best_first(room)]:
            sign = self.signs.get(trial.trial_id) if trial.trial_id in self.ledger.running else None
            table.add_row(*_row(trial, self.standings.get(trial.trial_id), sign))
        return Group(table, Text(self._summary_line(), style="bold"))

    def _most_running(self) -> int:
        """How many running trials have room in the table."""
        return max(5, self.console.height - 12)

    def _running(self) -> list[TrialRecord]:
        return [self.ledger.trials[trial_id] for trial_id in self.ledger.running]

    def _work_done(self) -> float:
        """In trials; a running one counts by its budget."""
        return self.ledger.ended_count + sum(map(self._budget, self.ledger.running))

    def _budget(self, trial_id: str) -> float:
        sign = self.signs.get(trial_id)
        return max(
            sign.step / sign.steps if isinstance(sign, Sign) and sign.rate else 0.0,
            self.standings.get(trial_id, {}).get("budget", 0.0),
        )

    def _seconds_left(self, total: int, done: float) -> float | None:
        """By the work since the first steps of this session: before them workers start, which is done once."""
        now = time.monotonic()
        if self._first_steps is None and any(map(self._step_of, self.ledger.running)):
            self._first_steps = now, done
        since, before = self._first_steps or (now, done)
        return (total - done) * (now - since) / (done - before) if done > before else None

    def _summary_line(self) -> str:
        total, done = self.ledger.total, self._work_done()
        best = self.ledger.best()
        at = f" at sparsity {self.ledger.level(best.trial_id):g}" if best and len(self.ledger.levels) > 1 else ""
        best_text = f"best {best.metric}{at} {_score(best.best_score)} ({best.trial_id})" if best else "no best yet"
        left = self._seconds_left(total, done)
        left_text = f"about {format_duration(left)} left" if left is not None else "time left not known yet"
        return f"{self.ledger.ended_count}/{total} trials, {best_text}, {left_text}"


def _row(trial: TrialRecord, standing: dict[str, Any] | None, told: Sign | Recording | None) -> list[str]:
    now, sign = dict(standing or {}), told if isinstance(told, Sign) else None
    if sign and sign.step > now.get("step", 0):
        now |= {"stage": sign.stage, "budget": sign.step / sign.steps}
    sparsity = now.get("sparsity", trial.achieved_sparsity)
    return [
        trial.trial_id,
        trial.method,
        trial.status,
        ROMAN.get(now.get("stage", 3 if trial.status == "finished" else 1), ""),
        f"{now.get('budget', 1.0 if trial.status == 'finished' else 0.0):.0%}",
        f"{sign.step:,}/{sign.steps:,}" if sign else _recording_text(told) if isinstance(told, Recording) else "",
        f"{sign.rate:.2g}" if sign and sign.rate else "",
        f"{sign.loss:.4f}" if sign else "",
        "" if sparsity is None else f"{sparsity:.3f}",
        _score(now.get("score", trial.final_score)),
        _score(now.get("best_score", trial.best_score)),
        _score(now.get("train_score_now", trial.train_score)),
        f"{trial.p0:g}",
        f"{now.get('wall_seconds', trial.wall_seconds or 0.0):.0f}",
    ]


def _running_text(trial: TrialRecord, standing: dict[str, Any] | None, sign: Sign | Recording | None) -> str:
    """Where a trial is: its last step, and what its last evaluation found."""
    if isinstance(sign, Recording):
        return f"{trial.trial_id} {_recording_text(sign)}"
    if not standing and not sign:
        return f"{trial.trial_id} starting"
    text = f"{trial.trial_id} {trial.method}"
    if sign and sign.step > (standing or {}).get("step", 0):
        text += f" stage {ROMAN[sign.stage]} step {sign.step:,}/{sign.steps:,} loss {sign.loss:.4f}"
        if sign.rate and sign.seconds_left is not None:
            text += f" {sign.rate:.2g} steps/s {format_duration(sign.seconds_left)} left"
    elif standing:
        text += f" stage {ROMAN[standing['stage']]} {standing['budget']:.0%}"
    if standing:
        text += f" sparsity {standing['sparsity']:.2f} {trial.selection} {_score(standing['score'])}"
    return text


def _recording_text(recording: Recording) -> str:
    """
    >>> _recording_text(Recording(300, 2490))
    "records the teacher's outputs 300/2,490"
    """
    return f"records the teacher's outputs {recording.examples:,}/{recording.of:,}"


def _recorded_line(examples: int, of: int, bytes: int, place: str) -> str:
    """
    >>> _recorded_line(300, 400, 3 * 2**30, "each worker's memory")
    "the teacher's outputs for 300 of 400 examples: 3.0 GiB in each worker's memory; the others' are computed"
    """
    part = "" if examples == of else f" for {examples:,} of {of:,} examples"
    rest = "" if examples == of else "; the others' are computed"
    return f"the teacher's outputs{part}: {in_words(bytes)} in {place}{rest}"


def _ended_line(trial: TrialRecord) -> str:
    reason = f" ({trial.error})" if trial.error else ""
    found = {trial.selection: trial.best_score, "train": trial.train_score}
    scores = "".join(f"{name} {_score(score)} " for name, score in found.items() if score is not None)
    seconds = f"{trial.wall_seconds or 0:.0f} s"
    return f"{trial.trial_id} {trial.method} {trial.status}{reason}: {scores}p0 {trial.p0:g} in {seconds} |"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def format_duration(seconds: float) -> str:
    """
    >>> [format_duration(seconds) for seconds in (7.2, 127, 7500)]
    ['7 s', '2 min 7 s', '2 h 5 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, more = divmod(minutes, 60)
    if hours:
        return f"{hours} h {more} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
