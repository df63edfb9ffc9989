"""A package of somebody else's that adds rows to this one's tables, as an installed one does: by its entry points."""

from pathlib import Path

DISTANCE = '''
from torch import Tensor
from spd_ray.equations.loss_terms import LossTerm
from spd_ray.equations.losses import RealTokens, over_tokens

def distance(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:
    """|H^S - H^T| of (B, L, H) states, mean over the real positions."""
    return over_tokens((student - teacher).abs().mean(dim=-1), tokens)

DISTANCE = LossTerm(distance, "hidden", "tokens", 0.0, "absolute distance of hidden states")
'''

LATEST = """
from spd_ray.equations.criterion_table import Criterion

def latest_update(product, statistics, settings):
    return {"latest": product.abs()}

def latest_score(weight, statistics, settings):
    return statistics.get("latest", weight.abs())

LATEST = Criterion(latest_score, "steps", "|w dL/dw| of the last step", update=latest_update, floats=1)
"""


def install_package(folder: Path, code: str, **points: str) -> None:
    """Put the package `farther` into `folder`: a module with `code`, and entry points `group` = "name = value"."""
    (folder / "farther.py").write_text(code)
    information = folder / "farther-1.5.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: farther\nVersion: 1.5\n")
    lines = [f"[spd_ray.{group}]\n{point}\n" for group, point in points.items()]
    (information / "entry_points.txt").write_text("".join(lines))
