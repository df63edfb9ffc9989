"""Pack a sparse student for use: `python -m spd_ray.deploy CHECKPOINT --out DIR`; sizes, answers and speed are shown.

The packed directory holds plain safetensors and JSON: `spd_ray.load_sparse(DIR)` answers as transformers does.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from spd_ray.base.errors import UserError, run_main, storage_refusal
from spd_ray.base.installation import add_version, name_missing_package


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m spd_ray.deploy", description=(__doc__ or "").splitlines()[0])
    add_version(parser)
    parser.add_argument("checkpoint", help="a student's directory or URI, or models:/NAME@best of MLflow's registry")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the packed directory to write")
    parser.add_argument("--values", choices=("fp32", "fp16"), default="fp32", help="kept weights (default: fp32)")
    parser.add_argument("--embeddings", choices=("fp32", "fp16", "int8"), default="fp32", help="default: fp32")
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE", help="write FILE in fp32, and its INT8 as FILE's .int8.onnx"
    )
    parser.add_argument("--bench", action="store_true", help="time one thread at 1 x 32 and 1 x 128 tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is printed as JSON")
    parser.add_argument("--allow-code", action="store_true", help="run a metric that is code, module:function")
    parser.add_argument("--mlflow", metavar="URI", help="where models:/ looks (default: MLFLOW_TRACKING_URI)")
    return parser.parse_args(arguments)


@name_missing_package("sweep", "spd_ray.deploy")
def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, compare, print. Raises UserError for whatever cannot be read, packed or written."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    from spd_ray.base.files import write_whole
    from spd_ray.base.user_code import allow_code
    from spd_ray.kernels.onnx_files import check_installed
    from spd_ray.tracking.taken import checkpoint_folder
    from spd_ray.training.deployment import deploy

    if options.allow_code:
        allow_code()
    if options.onnx:
        check_installed("onnx", "onnxruntime")
    try:
        with checkpoint_folder(options.checkpoint, options.mlflow) as folder:
            report = deploy(
                folder, options.out, options.values, options.embeddings, onnx_file=options.onnx, bench=options.bench
            )
        if options.json:
            write_whole(options.json, json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"{error.filename or options.out}: {storage_refusal(error) or error.strerror or error}"
        ) from error
    return 0


def run() -> NoReturn:
    """The command `spd-deploy`."""
    run_main(main)


if __name__ == "__main__":
    run()
