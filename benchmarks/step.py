"""One SPD training step beside the plain loop that people write today: `python benchmarks/step.py`.

The plain loop: stock eager modules, every example padded to 128, a teacher forward in every step, masks
multiplied into the weights in every step, PyTorch's AdamW. Ours: `spd_ray.trainer.training_step` as a trial
runs it. Both start from the same weights, see the same examples and the same draws, and run in one process,
in turn; the table gives medians over the blocks and the ratio block by block.

The lengths are drawn from the deciles of GLUE's RTE (pairs) and CoLA (sentences); the tokens are random.
"""

import argparse
import copy
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, PreTrainedModel

from spd_ray.config import EngineConfig, MethodConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig
from spd_ray.data import EncodedSplit, EncodedTask
from spd_ray.tasks import TASKS
from spd_ray.teacher import Teacher
from spd_ray.trainer import batches_from, draw_at, prepare, training_step

PADDED_LENGTH = 128
VOCABULARY = 1000
EXAMPLES = 512
LENGTH_DECILES = {
    "rte": [13, 32, 38, 43, 48, 53, 59, 70, 99, 128, 128],
    "cola": [4, 7, 8, 9, 9, 10, 11, 12, 14, 17, 48],
}
SHAPES = {"small": (4, 256, 4), "bert-base": (12, 768, 12), "miniature": (4, 64, 4)}  # layers, hidden size, heads


def random_task(lengths_of: str, rng: np.random.Generator) -> EncodedTask:
    """Random tokens with the lengths of a GLUE task."""
    lengths = (
        np.interp(rng.random(EXAMPLES), np.linspace(0, 1, 11), LENGTH_DECILES[lengths_of]).round().astype(np.int64)
    )
    width = int(lengths.max())
    ids = torch.from_numpy(rng.integers(5, VOCABULARY, (EXAMPLES, width))).int()
    ids[torch.arange(width) >= torch.from_numpy(lengths)[:, None]] = 0
    split = EncodedSplit(
        ids, torch.zeros_like(ids, dtype=torch.uint8), torch.from_numpy(rng.integers(0, 2, EXAMPLES)), lengths
    )
    return EncodedTask(TASKS["rte"], split, split.subset(np.arange(8)), fingerprint=lengths_of)


def random_teacher(shape: str, data: EncodedTask) -> Teacher:
    """A BERT of random weights in the place of a fine-tuned one."""
    layers, hidden, heads = SHAPES[shape]
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            attn_implementation="eager",
        )
    )
    return Teacher(
        model=model.eval().requires_grad_(False),
        tokenizer=BertTokenizerFast(),
        data=data,
        score=0.0,
        train_score=0.0,
        majority_score=0.0,
        learning_rate=0.0,
        folder=Path(shape),
    )


class Switch(nn.Module):
    """A student layer beside a teacher layer, as module-replacing code has it."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher, self.grafted = student, teacher, True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return (self.student if self.grafted else self.teacher)(*args, **kwargs)


def plain_steps(teacher: PreTrainedModel, train: EncodedSplit, method: MethodConfig, seed: int) -> Iterator[None]:
    """The plain loop; each `next` is one step."""
    grafted = copy.deepcopy(teacher).train()
    layers = grafted.bert.encoder.layer
    student = copy.deepcopy(layers).requires_grad_(True)
    switches = [Switch(mine, theirs) for mine, theirs in zip(student, layers, strict=True)]
    grafted.bert.encoder.layer = nn.ModuleList(switches)
    linears = [module for module in student.modules() if isinstance(module, nn.Linear)]
    masks = [(linear.weight.abs() > linear.weight.abs().quantile(0.9)).float() for linear in linears]
    optimizer = torch.optim.AdamW(student.parameters(), lr=method.stage1_lr)
    maps = {"output_hidden_states": True, "output_attentions": True}
    rng = np.random.default_rng(seed)
    for step in itertools.count():
        rows = rng.permutation(len(train))[: method.batch_size]
        ids = F.pad(train.input_ids[rows].long(), (0, PADDED_LENGTH - train.input_ids.shape[1]))
        real = torch.arange(PADDED_LENGTH) < torch.from_numpy(train.lengths[rows])[:, None]
        inputs = {"input_ids": ids, "attention_mask": real.long()}
        for linear, mask in zip(linears, masks, strict=True):
            linear.weight.data.mul_(mask)
        for switch, drawn in zip(switches, draw_at(seed, step, method.p0, len(switches)), strict=True):
            switch.grafted = drawn
        with torch.no_grad():
            t = teacher(**inputs, **maps)
        s = grafted(**inputs, **maps)
        loss = -(t.logits.softmax(-1) * s.logits.log_softmax(-1)).sum(-1).mean()
        for ours, theirs in zip(s.hidden_states[1:] + s.attentions, t.hidden_states[1:] + t.attentions, strict=True):
            loss = loss + F.mse_loss(ours, theirs)
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), method.clip_norm)
        optimizer.step()
        yield


def our_steps(teacher: Teacher, method: MethodConfig, precision: str, seed: int) -> Iterator[None]:
    """A trial's training steps; each `next` is one step."""
    task, model, settings = TaskConfig(name="rte"), ModelConfig(), TeacherConfig()
    engine = EngineConfig.model_validate({"precision": precision})
    run = prepare(
        TrialConfig(task=task, model=model, teacher=settings, method=method, engine=engine, seed=seed), teacher
    )
    for step, parts in enumerate(batches_from(run, 0)):
        training_step(run, step, parts, 0.0)
        yield


def seconds_a_step(steps: Iterator[None], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    return (time.perf_counter() - started) / count


def compare(make: list[Callable[[], Iterator[None]]], block: int, blocks: int) -> list[list[float]]:
    """Seconds a step of each loop, block by block, in turn, after a block of warm-up."""
    loops = [build() for build in make]
    for loop in loops:
        seconds_a_step(loop, block)
    times: list[list[float]] = [[] for _ in loops]
    for _ in range(blocks):
        for loop, measured in zip(loops, times, strict=True):
            measured.append(seconds_a_step(loop, block))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--lengths", choices=LENGTH_DECILES, nargs="+", default=list(LENGTH_DECILES))
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--p0", type=float, default=0.6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--block", type=int, default=4, help="steps a block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    method = MethodConfig(p0=options.p0, batch_size=options.batch_size, dropout=0.1)
    table = Table(
        "lengths", "plain ms", "ours ms", "ratio", "ratio min-max", "plain tokens/s", "ours tokens/s",
        title=f"{options.shape}, {options.precision}, batch {options.batch_size}, p0 {options.p0:g}, "
        f"{options.threads} thread(s), torch {torch.__version__}",
    )  # fmt: skip
    for lengths_of in options.lengths:
        data = random_task(lengths_of, np.random.default_rng(0))
        teacher = random_teacher(options.shape, data)
        plain, ours = compare(
            [
                partial(plain_steps, teacher.model, data.train, method, 0),
                partial(our_steps, teacher, method, options.precision, 0),
            ],
            options.block,
            options.blocks,
        )
        ratios = [p / o for p, o in zip(plain, ours, strict=True)]
        tokens = float(data.train.lengths.mean()) * options.batch_size
        p, o = statistics.median(plain), statistics.median(ours)
        table.add_row(
            lengths_of, f"{p * 1e3:.1f}", f"{o * 1e3:.1f}", f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}", f"{tokens / p:,.0f}", f"{tokens / o:,.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
