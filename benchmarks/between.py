"""From the end of a trial to the first step of the next on one worker: `python -m benchmarks.between`.

Trials of two evaluations on the miniature, one after the other in one process, as Tune's reused actor runs them,
without Tune. Printed: seconds from the end of a trial to the first step of the next, resident memory along the way, and
what an evaluation costs beside a plain forward pass over the same examples.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification

from spd_ray.config.load import load_spec
from spd_ray.config.trial import TrialConfig
from spd_ray.model import surgery
from spd_ray.records.storage import SweepStorage
from spd_ray.training.teacher import EVAL_BATCH_SIZE, Teacher, load_teacher, predict
from spd_ray.training.trainer import evaluate_student
from spd_ray.trials.request import TrialRequest
from spd_ray.trials.runner import TrialRunner
from spd_ray.trials.shared_teacher import send_teacher

SPACE = Path(__file__).parents[1] / "search_spaces" / "demo.yaml"
SHORT = ["method.total_epochs=2", "method.stage1_epochs=1", "method.stage2_epochs=0.5", "method.eval_every_epochs=1",
         "search={p0: {choices: [0.6]}}", "warm_start=[]", "early_stopping=null"]  # fmt: skip
SETTLED = 5  # trials until a worker has allocated what it keeps


def run_trial(
    config: TrialConfig, number: int, storage: SweepStorage, ended: float, teacher: Teacher
) -> tuple[TrialRunner, float]:
    """Run trial `number` to its end; also the seconds from `ended` to its first step's begin."""
    request = TrialRequest(
        trial_id=f"{number:05d}-s{number}", config=config.model_copy(update={"seed": number}), place=storage.place,
        content=teacher.content, gpus=1.0, state_seconds=60.0,
    )  # fmt: skip
    runner = TrialRunner(request)
    until_first_step = time.perf_counter() - ended
    while not runner.done:
        runner.advance()
    return runner, until_first_step


def evaluation_costs(runner: TrialRunner, times: int) -> tuple[float, float]:
    """Median seconds of an evaluation, and of a plain model's forward passes over the same examples."""
    run, stock = runner.run, AutoModelForSequenceClassification.from_config(runner.run.teacher.model.config).eval()
    stock.load_state_dict(surgery.extract_student(run.model))
    ours, plain = [], []
    for _ in range(times):
        started = time.perf_counter()
        list(evaluate_student(run, run.step, 0.0))
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        for split in (run.train_sample, run.teacher.data.chooser):
            predict(stock, split, EVAL_BATCH_SIZE, torch.device("cpu"))
        plain.append(time.perf_counter() - started)
    return statistics.median(ours), statistics.median(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = load_spec(str(SPACE), SHORT)
    config = spec.trial_config({"p0": 0.6}, 0)
    process, gaps, resident = psutil.Process(os.getpid()), [], []
    with tempfile.TemporaryDirectory() as folder:
        storage = SweepStorage(folder, "between")
        teacher = load_teacher(config.task, config.model, config.teacher)
        send_teacher(teacher, storage)
        ended = time.perf_counter()
        for number in range(options.trials):
            runner, gap = run_trial(config, number, storage, ended, teacher)
            ended = time.perf_counter()
            runner.close()
            gaps.append(gap)
            resident.append(process.memory_info().rss / 2**20)
        evaluation, forward = evaluation_costs(runner, 9)
    later = gaps[1:]
    table = Table(
        "measured", "value", title=f"{options.trials} trials on one worker, miniature, torch {torch.__version__}"
    )
    table.add_row("until the first trial's first step (teacher loaded, its outputs recorded)", f"{gaps[0]:.2f} s")
    table.add_row(
        "end of a trial to the next one's first step: median (smallest to largest)",
        f"{statistics.median(later):.3f} s ({min(later):.3f} to {max(later):.3f})",
    )
    table.add_row(
        f"resident memory after trial {SETTLED}, half, all",
        f"{resident[SETTLED - 1]:.0f}, {resident[len(resident) // 2]:.0f}, {resident[-1]:.0f} MiB "
        f"({resident[-1] / resident[SETTLED - 1] - 1:+.1%})",
    )
    table.add_row(
        "an evaluation beside a plain forward pass over the same examples",
        f"{evaluation * 1e3:.0f} ms, {forward * 1e3:.0f} ms ({evaluation / forward:.2f}x)",
    )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
