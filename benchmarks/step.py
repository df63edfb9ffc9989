"""One SPD training step beside the plain loop that people write today: `python -m benchmarks.step`.

The plain loop: stock eager modules, every example padded to 128, a teacher forward in every step, masks
multiplied into the weights in every step, PyTorch's AdamW, autocast in 16 bits. Ours: `training_step` as a trial runs
it. Both start from the same weights, half of them pruned, see the same batches under the same draws,
and run in one process, in turn, on the first GPU if there is one. The table gives means over the steps and their
ratio (in brackets the ratios of single blocks: a draw whose first layers are the teacher's is cheap, so take many
steps), how many times fewer floating-point operations ours takes, what share of this machine's matrix-product ceiling
it reaches (both over the steps that were timed), and how far the losses of the first block are apart, without
dropout.

The lengths are drawn from the deciles of GLUE's RTE (pairs) and CoLA (sentences); the tokens are random.
"""

import argparse
import copy
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, PreTrainedModel

from spd_ray.config.method import MethodConfig
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import EngineConfig, ModelConfig, TaskConfig, TeacherConfig, TrialConfig
from spd_ray.data.batches import EncodedSplit, EncodedTask, epoch_batches
from spd_ray.data.tasks import TASKS
from spd_ray.engine import engine as engines
from spd_ray.equations.masks import magnitude_mask
from spd_ray.model import surgery
from spd_ray.records.provenance import TEACHER_FILES
from spd_ray.training.teacher import Teacher
from spd_ray.training.trainer import SpdRun, batches_from, draw_at, prepare, training_step

PADDED_LENGTH = 128
SPARSITY = 0.5
VOCABULARY = 1000
EXAMPLES = 512
LENGTH_DECILES = {
    "rte": [13, 32, 38, 43, 48, 53, 59, 70, 99, 128, 128],
    "cola": [4, 7, 8, 9, 9, 10, 11, 12, 14, 17, 48],
}
SHAPES = {"small": (4, 256, 4), "bert-base": (12, 768, 12), "miniature": (4, 64, 4)}  # layers, hidden size, heads
Steps = Iterator[SupportsFloat]


def random_task(lengths_of: str, rng: np.random.Generator, size: int = EXAMPLES) -> EncodedTask:
    """`size` examples of random tokens with the lengths of a GLUE task."""
    lengths = np.interp(rng.random(size), np.linspace(0, 1, 11), LENGTH_DECILES[lengths_of]).round().astype(np.int64)
    width = int(lengths.max())
    ids = torch.from_numpy(rng.integers(5, VOCABULARY, (size, width))).int()
    ids[torch.arange(width) >= torch.from_numpy(lengths)[:, None]] = 0
    split = EncodedSplit(
        ids, torch.zeros_like(ids, dtype=torch.uint8), torch.from_numpy(rng.integers(0, 2, size)), lengths
    )
    return EncodedTask(TASKS["rte"], split, split.subset(np.arange(8)), fingerprint=lengths_of)


def random_teacher(shape: tuple[int, int, int], data: EncodedTask) -> Teacher:
    """A BERT of random weights in the place of a fine-tuned one."""
    layers, hidden, heads = shape
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
        model=model.eval().requires_grad_(False).to(engines.device()),
        tokenizer=BertTokenizerFast(),
        data=data,
        score=0.0,
        train_score=0.0,
        majority_score=0.0,
        learning_rate=0.0,
        other_scores={},
        folder=Path("untrained"),
        content={TEACHER_FILES: "-".join(map(str, shape))},
    )


class Switch(nn.Module):
    """A student layer beside a teacher layer, as module-replacing code has it."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher, self.grafted = student, teacher, True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return (self.student if self.grafted else self.teacher)(*args, **kwargs)


def distillation(student: Any, teacher: Any, real: torch.Tensor) -> torch.Tensor:
    """Eq. (4) over the real positions, of what transformers returns for padded (B, 128) inputs."""
    pairs = (real[:, :, None] & real[:, None, :])[:, None]
    loss = -(teacher.logits.softmax(-1) * student.logits.log_softmax(-1)).sum(-1).mean()
    for ours, theirs in zip(student.hidden_states[1:], teacher.hidden_states[1:], strict=True):
        loss = loss + ((ours - theirs).square().mean(-1) * real).sum() / real.sum()
    for ours, theirs in zip(student.attentions, teacher.attentions, strict=True):
        loss = loss + ((ours - theirs).square() * pairs).sum() / (pairs.sum() * ours.shape[1])
    return loss


def plain_steps(
    teacher: PreTrainedModel, train: EncodedSplit, method: MethodConfig, precision: str, seed: int
) -> Iterator[float]:
    """The plain loop; each `next` is one step and gives its loss."""
    device = engines.device()
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    grafted = copy.deepcopy(teacher).train()
    for module in grafted.modules():
        if isinstance(module, nn.Dropout):
            module.p = method.dropout
    layers = grafted.bert.encoder.layer
    student = copy.deepcopy(layers).requires_grad_(True)
    frozen = layers.eval()
    switches = [Switch(mine, theirs) for mine, theirs in zip(student, frozen, strict=True)]
    grafted.bert.encoder.layer = nn.ModuleList(switches)
    linears = [module for module in student.modules() if isinstance(module, nn.Linear)]
    masks = [
        magnitude_mask(one.weight, torch.ones_like(one.weight, dtype=torch.bool), SPARSITY).float() for one in linears
    ]
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=method.weight_decay)
    maps = {"output_hidden_states": True, "output_attentions": True}
    timeline = Timeline.of(method, len(train))
    epochs = (epoch_batches(train.lengths, method.batch_size, seed, epoch) for epoch in itertools.count())
    for step, rows in enumerate(itertools.chain.from_iterable(epochs)):
        ids = F.pad(train.input_ids[rows].long(), (0, PADDED_LENGTH - train.input_ids.shape[1]))
        real = torch.arange(PADDED_LENGTH) < torch.from_numpy(train.lengths[rows])[:, None]
        real = real.to(device)
        inputs = {"input_ids": ids.to(device), "attention_mask": real.long()}
        optimizer.param_groups[0]["lr"] = timeline.learning_rate(step)
        for linear, mask in zip(linears, masks, strict=True):
            linear.weight.data.mul_(mask)
        drawn = draw_at(seed, step, timeline.replacing_probability(step), len(switches))
        for switch, is_student in zip(switches, drawn, strict=True):
            switch.grafted = is_student
        with torch.autocast(device.type, engines.DTYPES[precision], enabled=precision != "fp32"):
            with torch.no_grad():
                t = teacher(**inputs, **maps)
            s = grafted(**inputs, **maps)
            loss = distillation(s, t, real)
        optimizer.zero_grad()
        if loss.requires_grad:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            for linear, mask in zip(linears, masks, strict=True):
                if linear.weight.grad is not None:
                    linear.weight.grad.mul_(mask)
            nn.utils.clip_grad_norm_(student.parameters(), method.clip_norm)
            scaler.step(optimizer)
            scaler.update()
        yield loss.item()


def our_run(teacher: Teacher, method: MethodConfig, precision: str, seed: int, *settings: Any, **more: Any) -> SpdRun:
    """A trial made ready, half of its student pruned."""
    run = unpruned_run(teacher, method, precision, seed, *settings, **more)
    surgery.prune(run.model, SPARSITY)
    return run


def unpruned_run(
    teacher: Teacher,
    method: MethodConfig,
    precision: str,
    seed: int,
    sparse_kernels: str = "auto",
    zero_stage: int = 0,
    padding: str = "longest",
    **more: Any,
) -> SpdRun:
    """A trial made ready; `more` are keys of its engine."""
    engine = {"precision": precision, "sparse_kernels": sparse_kernels, "zero_stage": zero_stage, **more}
    config = TrialConfig(
        task=TaskConfig.model_validate({"name": "rte", "padding": padding}),
        model=ModelConfig(),
        teacher=TeacherConfig(),
        method=method,
        engine=EngineConfig.model_validate(engine),
        seed=seed,
    )
    return prepare(config, teacher)


def steps_of(run: SpdRun) -> Iterator[torch.Tensor]:
    """The training steps of `run`; each `next` is one step and gives its loss, which nobody has waited for."""
    for step, parts in enumerate(batches_from(run, 0)):
        yield training_step(run, step, parts, SPARSITY).losses[0]


def seconds_a_step(steps: Steps, count: int) -> float:
    started = time.perf_counter()
    losses = [next(steps) for _ in range(count)]
    float(losses[-1])  # waits for a GPU
    return (time.perf_counter() - started) / count


def loops(teacher: Teacher, plain: str, precision: str, method: MethodConfig) -> tuple[Steps, Steps]:
    """The plain loop in precision `plain` and ours in `precision`, from the same weights over the same batches."""
    theirs = plain_steps(teacher.model, teacher.data.train, method, plain, 0)
    return theirs, steps_of(our_run(teacher, method, precision, 0))


def compare(loops: Sequence[Steps], block: int, blocks: int) -> list[list[float]]:
    """Seconds a step of each loop, block by block, in turn, after a block of warm-up."""
    for loop in loops:
        seconds_a_step(loop, block)
    times: list[list[float]] = [[] for _ in loops]
    for _ in range(blocks):
        for loop, measured in zip(loops, times, strict=True):
            measured.append(seconds_a_step(loop, block))
    return times


def losses_and_flops(steps: Steps, count: int) -> tuple[np.ndarray, float]:
    """The losses of the next `count` steps, and the floating-point operations of a step's matrix products."""
    with FlopCounterMode(display=False) as counter:
        losses = np.array([float(next(steps)) for _ in range(count)])
    return losses, counter.get_total_flops() / count


def ceiling(precision: str) -> float:
    """Floating-point operations a second of a large matrix product: what no step can exceed. The best of five."""
    on_cpu = 2048 if precision == "fp32" else 512  # one of 2048 takes a minute where 16 bits have no instructions
    size = on_cpu if engines.device().type == "cpu" else 8192
    one = torch.ones(size, size, dtype=engines.DTYPES[precision], device=engines.device())
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        (one @ one)[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def step_parser(description: str, blocks: int) -> argparse.ArgumentParser:
    """What the benchmarks of steps share of their command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--lengths", choices=LENGTH_DECILES, nargs="+", default=list(LENGTH_DECILES))
    parser.add_argument("--precision", choices=engines.DTYPES, default="fp32", help="of ours")
    parser.add_argument("--p0", type=float, default=0.6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--block", type=int, default=4, help="steps a block")
    parser.add_argument("--blocks", type=int, default=blocks)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def main() -> None:
    parser = step_parser(__doc__, blocks=12)
    parser.add_argument("--plain", choices=engines.DTYPES, default="fp32", help="precision of the plain loop")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    method = MethodConfig(p0=options.p0, batch_size=options.batch_size, dropout=0.1)
    limit = ceiling(options.precision)
    table = Table(
        "lengths", "plain ms", "ours ms", "ratio (of blocks)", "fewer operations", "ours tokens/s",
        "of the ceiling", "losses apart",
        title=f"{options.shape}, {options.precision} beside plain {options.plain}, batch {options.batch_size}, "
        f"p0 {options.p0:g}, {options.threads} thread(s), torch {torch.__version__}, {engines.device().type}",
        caption=f"ceiling: {limit / 1e9:.0f} GFLOP/s in a large {options.precision} matrix product",
    )  # fmt: skip
    for lengths_of in options.lengths:
        data = random_task(lengths_of, np.random.default_rng(0), options.examples)
        teacher = random_teacher(SHAPES[options.shape], data)
        make = partial(loops, teacher, options.plain, options.precision)
        times = compare(make(method), options.block, options.blocks)
        plain, ours = (statistics.mean(measured) for measured in times)
        still = method.model_copy(update={"dropout": 0.0})  # dropout's masks differ with padding
        their_loop, loop = make(still)
        (their_losses, their_flops), (losses, _) = (losses_and_flops(one, options.block) for one in (their_loop, loop))
        _, flops = losses_and_flops(loop, options.block * options.blocks)  # of the steps that were timed
        ratios = [p / o for p, o in zip(*times, strict=True)]
        table.add_row(
            lengths_of,
            f"{plain * 1e3:.1f}",
            f"{ours * 1e3:.1f}",
            f"{plain / ours:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{their_flops / flops:.2f}",
            f"{data.train.lengths.mean() * options.batch_size / ours:,.0f}",
            f"{flops / ours / limit:.0%}",
            f"{np.abs(losses / their_losses - 1).max():.0e}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
