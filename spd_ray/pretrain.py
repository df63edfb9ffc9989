"""Pretrain a small BERT by masked language modelling on any plain text: `python -m spd_ray.pretrain`.

Its command line is read before anything is imported that takes seconds.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from spd_ray.base.errors import UserError, run_main
from spd_ray.base.files import whole_folder
from spd_ray.base.installation import add_version, name_missing_package


def check_new(path: Path) -> None:
    """Raises UserError where `path` exists and is not an empty directory, or cannot be made."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"--out {path}: exists and is not an empty directory; name a new one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--out {path}: cannot be made ({error.strerror})") from error


def pretrain_on_text(arguments: argparse.Namespace) -> None:
    """What the command does with its parsed arguments."""
    import torch
    from transformers import BertConfig

    from spd_ray.data.corpus import encode_documents, read_corpus, train_tokenizer
    from spd_ray.training.mlm import Plan, bert_masking, new_model, pretrain, save

    torch.set_num_threads(arguments.threads)
    documents = read_corpus(arguments.corpus)
    tokenizer = train_tokenizer(documents, arguments.vocab_size, arguments.max_length)
    if len(tokenizer) == len(tokenizer.all_special_ids):
        raise UserError(f"{', '.join(map(str, arguments.corpus))}: no words in the text, only control characters")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        intermediate_size=arguments.intermediate,
        max_position_embeddings=arguments.max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    plan = Plan(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.lr,
        warmup_steps=arguments.steps // 10,
        seed=arguments.seed,
    )
    check_new(arguments.out)
    with whole_folder(arguments.out) as folder:
        model = new_model(config, arguments.seed, embedding_std=config.initializer_range)
        rows = encode_documents(documents, tokenizer, arguments.max_length)
        pretrain(model, rows, None, bert_masking(tokenizer), plan)
        save(model, tokenizer, folder)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def _at_least(minimum: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is less than {minimum}")
        return value

    return whole_number


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m spd_ray.pretrain", description="Pretrain a small BERT by MLM on plain text.")
    add_version(parser)
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, help="UTF-8 text, one document a line, or .tsv"
    )
    parser.add_argument("--out", type=Path, required=True, help="the new transformers directory")
    counts = {
        "vocab-size": (8_000, 6, "tokens of the WordPiece vocabulary, at most"),
        "layers": (4, 1, "encoder layers"),
        "hidden": (128, 1, "hidden units; a multiple of --heads"),
        "heads": (4, 1, "attention heads"),
        "intermediate": (512, 1, "units of the feed-forward layers"),
        "steps": (5_000, 1, "optimizer steps; a tenth of them warm up"),
        "batch-size": (32, 1, "documents in a step"),
        "max-length": (128, 3, "tokens; longer documents are cut"),
        "seed": (0, 0, "of the initialization, the order and the masks"),
        "threads": (1, 1, "CPU threads"),
    }
    for name, (default, minimum, text) in counts.items():
        parser.add_argument(f"--{name}", type=_at_least(minimum), default=default, help=f"{text} ({default})")
    parser.add_argument("--lr", type=_rate, default=1e-3, help="the highest learning rate (0.001)")
    return parser


@name_missing_package("sweep", "spd_ray.pretrain")
def main(argv: Sequence[str] | None = None) -> None:
    """`python -m spd_ray.pretrain`. Raises UserError for arguments and files that cannot be used."""
    arguments = _parser().parse_args(argv)
    if arguments.hidden % arguments.heads:
        raise UserError(f"--hidden {arguments.hidden}: must be a multiple of --heads {arguments.heads}")
    pretrain_on_text(arguments)


def run() -> NoReturn:
    """The command `spd-pretrain`."""
    run_main(main)


if __name__ == "__main__":
    run()
