"""Write the tables of docs/ that the code and the YAML decide: `make docs`.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything else in docs/ is written by hand.
"""

import ast
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from spd_ray.config import presets
from spd_ray.config.method import MethodConfig
from spd_ray.config.methods import METHODS, load_method
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.trial import EngineConfig
from spd_ray.equations.criterion_table import CRITERIA
from spd_ray.equations.loss_terms import LOSS_TERMS, column
from spd_ray.records import schema

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str) -> str:
    """`text` with every generated block written anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; what would end a cell is escaped."""
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *cells])


def methods() -> str:
    """Every file of spd_ray/config/methods."""
    cards = {name: load_method(name) for name in sorted(METHODS, key=lambda name: (name != "spd", name))}
    return table(
        ("method", "composed of", "source", "leaves out"),
        (
            (
                f"[`{name}`](../spd_ray/config/methods/{name}.yaml)",
                "<br>".join(f"**{part}**: {text}" for part, text in card.parts.items()),
                card.source,
                card.leaves_out,
            )
            for name, card in cards.items()
        ),
    )


def loss_terms() -> str:
    """Every row of `LOSS_TERMS`."""
    return table(
        ("term", "what it is", "function of `losses`", "reads", "a mean over", "weight unless set"),
        (
            (f"`{name}`", term.description, f"`{term.function}`", term.reads, term.counted_by, f"{term.weight:g}")
            for name, term in LOSS_TERMS.items()
        ),
    )


def criteria() -> str:
    """Every row of `CRITERIA`."""
    return table(
        ("`method.pruning`", "score of a weight w, g = dL/dw", "reads", "fp32 numbers kept a weight"),
        ((f"`{name}`", row.description, row.reads, row.floats or "none") for name, row in CRITERIA.items()),
    )


def preset_tables() -> str:
    """What `paper` sets for all tasks and for each, what `reference` sets on top, and what `mini` lays over a space."""
    paper, reference, mini = (
        yaml.safe_load((presets.FOLDER / f"{name}.yaml").read_text()) for name in ("paper", "reference", "mini")
    )
    of_paper, of_reference = dict(leaves(paper["settings"])), dict(leaves(reference["settings"]))
    settings = table(
        ("key", "`preset: paper`", "`preset: reference`"),
        (
            (f"`{key}`", code(of_paper.get(key)) or "its default", code(of_reference.get(key)) or "as `paper`")
            for key in {**of_paper, **of_reference}
        ),
    )
    by_task = {task: dict(leaves(own)) for task, own in paper["tasks"].items()}
    keys = list(dict.fromkeys(key for own in by_task.values() for key in own))
    tasks = table(
        ("task", *(f"`{key}`" for key in keys), "with `--profile mini`"),
        (
            (
                f"[`{task}`](../search_spaces/{task}.yaml)",
                *(code(own.get(key)) or "not printed" for key in keys),
                f"`{mini['stands_for'][task]}`",
            )
            for task, own in by_task.items()
        ),
    )
    return f"{settings}\n\n{tasks}"


def decisions() -> str:
    """Every room of decisions.md with its headings."""
    text = (ROOT / "docs/decisions.md").read_text()
    rooms = [room.splitlines() for room in text.split("\n## ")[1:]]
    headings = ((room[0], [line.removeprefix("### ") for line in room if line.startswith("### ")]) for room in rooms)
    return "\n".join(f"- {link(room)}: {', '.join(map(link, below))}" for room, below in headings)


def link(heading: str) -> str:
    return f"[{heading}](#{anchor(heading)})"


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def trial_columns() -> str:
    """Every column of trials.parquet; where the record says nothing, the configuration's own description."""
    configs: tuple[type[BaseModel], ...] = (MethodConfig, EngineConfig)
    described = {
        name: field.description for one in configs for name, field in one.model_fields.items() if field.description
    }
    notes = comments("TrialRecord")
    return table(
        ("column", "type", "meaning"),
        (
            (f"`{field.name}`", field.type, notes.get(field.name) or described.get(field.name, ""))
            for field in schema.TRIAL_SCHEMA
        ),
    )


def step_columns() -> str:
    """Every column of the step files."""
    notes = comments("StepRecord")
    notes |= {column(name): f"{term.description}, unweighted" for name, term in LOSS_TERMS.items()}
    return table(
        ("column", "type", "meaning"),
        ((f"`{field.name}`", field.type, notes.get(field.name, "")) for field in schema.STEP_SCHEMA),
    )


def prediction_columns() -> str:
    """Every column of the predictions' files."""
    notes = comments("PredictionRecord")
    return table(
        ("column", "type", "meaning"),
        ((f"`{field.name}`", field.type, notes[field.name]) for field in schema.PREDICTION_SCHEMA),
    )


def spaces() -> str:
    """Every search space with what its head says."""
    files = [*sorted((ROOT / "search_spaces").glob("*.yaml")), *sorted((ROOT / "search_spaces/paper").glob("*.yaml"))]
    heads = {file: space_head(file) for file in files}
    return table(
        ("space", "what", "source", "cost"),
        (
            (f"[`{path}`](../{path})", head["title"], head["Source"], head["Cost"])
            for file, head in heads.items()
            if head
            for path in [file.relative_to(ROOT).as_posix()]
        ),
    )


def keys_of_a_space() -> str:
    """Every key of a search space with its default."""
    return table(
        ("key", "default", "meaning"),
        ((f"`{key}`", default, meaning) for key, default, meaning in keys_of(SweepSpec)),
    )


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """The keys below a section: path, default, description. A section that others repeat is written out once."""
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *typing.get_args(field.annotation))
        inner = None if typing.get_origin(field.annotation) is dict else next(filter(is_section, kinds), None)
        if inner is not None:
            if field.default is None:
                yield f"{prefix}{name}", "null", f"none, unless a key of it is given. {inner.__doc__}"
            yield from keys_of(inner, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        value = "required" if field.is_required() else code(list(default) if isinstance(default, tuple) else default)
        choices = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
        one_of = f"one of {', '.join(map(str, choices))}" if choices and name != "name" else ""
        yield f"{prefix}{name}", value or "null", "; ".join(filter(None, [field.description, one_of]))


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def comments(record: str) -> dict[str, str]:
    """The comment beside each field of a record in spd_ray/records/schema.py."""
    source = Path(str(schema.__file__)).read_text()
    found = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == record)
    lines = source.splitlines()
    fields = [node for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {
        node.target.id: lines[node.end_lineno - 1][node.end_col_offset :].strip().removeprefix("#").strip()
        for node in fields
        if isinstance(node.target, ast.Name) and node.end_lineno is not None and node.end_col_offset is not None
    }


def space_head(file: Path) -> dict[str, str]:
    """The title, source and cost that the comment at a space's head gives; empty for a file that is no space."""
    content = yaml.safe_load(file.read_text())
    if not isinstance(content, dict) or "task" not in content:
        return {}
    lines = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    parts, current = {"title": ""}, "title"
    for line in lines:
        label, colon, rest = line.partition(":")
        if colon and label in ("Source", "Command", "Cost"):
            current, line = label, rest.strip()
        parts[current] = f"{parts.get(current, '')} {line}".strip()
    parts["Cost"] = parts["Cost"].partition(" On CPU give ")[0]
    return parts


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested sections, with their values."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def code(value: Any) -> str:
    """A value as YAML has it, as code; nothing for none."""
    if value is None:
        return ""
    if isinstance(value, list):
        return f"`[{', '.join(code(one).strip('`') for one in value)}]`"
    if isinstance(value, float):
        return f"`{re.sub('e-0', 'e-', f'{value:g}')}`"
    return f"`{yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


TABLES = {
    "methods": methods,
    "loss terms": loss_terms,
    "criteria": criteria,
    "presets": preset_tables,
    "decisions": decisions,
    "columns of trials": trial_columns,
    "columns of steps": step_columns,
    "columns of predictions": prediction_columns,
    "spaces": spaces,
    "keys": keys_of_a_space,
}


def main() -> None:
    """Write every document whose tables have changed."""
    for file in sorted((ROOT / "docs").glob("*.md")):
        text = file.read_text()
        if fill(text) != text:
            file.write_text(fill(text))
            print(f"wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
