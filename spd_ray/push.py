"""Push a student with its model card to the Hugging Face Hub: `python -m spd_ray.push CHECKPOINT --to OWNER/NAME`.

`python -m spd_ray.show SWEEP --sparsity 0.95 --path` prints the best CHECKPOINT of a sweep.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from spd_ray.base.errors import run_main
from spd_ray.base.installation import add_version, name_missing_package


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m spd_ray.push", description=(__doc__ or "").splitlines()[0])
    add_version(parser)
    parser.add_argument("checkpoint", help="a student's directory or URI, or models:/NAME@best of MLflow's registry")
    parser.add_argument("--to", required=True, metavar="REPO", help="OWNER/NAME; made, private, where it is not there")
    parser.add_argument("--packed", action="store_true", help="put the small, fast copy beside it, into packed/")
    parser.add_argument("--mlflow", metavar="URI", help="where models:/ looks (default: MLFLOW_TRACKING_URI)")
    return parser.parse_args(arguments)


@name_missing_package("sweep", "spd_ray.push")
def main(arguments: Sequence[str] | None = None) -> int:
    """Push it and print its address. Raises UserError for what keeps it from that; the checkpoint stays as it is."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    from spd_ray.tracking.hub import check_hub, push_checkpoint
    from spd_ray.tracking.taken import checkpoint_folder

    check_hub(options.to)
    with checkpoint_folder(options.checkpoint, options.mlflow) as folder:
        print(f"pushed to {push_checkpoint(folder, options.to, packed=options.packed)}")
    return 0


def run() -> NoReturn:
    """The command `spd-push`."""
    run_main(main)


if __name__ == "__main__":
    run()
