"""The one list of checks: the doctor says all of them, a sweep's preflight stops at the first that has failed.

The doctor alone looks at what keeps a Ray from starting or from being joined, and sums over all nodes.

Why so: docs/decisions.md #preflight.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spd_ray.base.errors import UserError
from spd_ray.base.network import is_uri
from spd_ray.checks import environment, nodes
from spd_ray.checks.finding import FAILED, OK, Finding, describe_error, run_check
from spd_ray.checks.nodes import NodeReport

if TYPE_CHECKING:  # what it imports may be missing, which the doctor is to say
    from spd_ray.config.sweep import SweepSpec

KEYS = {"mlflow": "tracking.uri: "}  # of a space, where the finding does not name it
RAY_MEND = (
    "is it up (ray status)? does it want a token (export RAY_AUTH_MODE=token, the head's ~/.ray/auth_token here)? "
    "same Ray and Python version?"
)


def examine(
    address: str | None, storage: str, mlflow: str | None, spec: "SweepSpec | None" = None
) -> Iterator[Finding]:
    """The doctor's findings, as they are found, with a space also those of it. Nothing of it is left behind."""
    yield run_check("versions", environment.check_versions)
    yield run_check("token file", environment.check_token_file)
    place = storage if is_uri(storage) else str(Path(storage).resolve())
    yield from examine_places(place, mlflow or (spec.tracking.uri if spec else None))
    other = environment.find_other_ray()
    if other:
        yield other
        return
    space = ExaminedSpace(spec, place) if spec else None
    if space:
        yield from space.examine_files()
    try:
        with (
            nodes.silent_stderr(),
            nodes.ray_connection(address),
            nodes.shared_place(environment.nearest_existing(place)) as shared,
        ):
            reports = nodes.ask_nodes(shared)
            yield from examine_nodes(reports, shared, place)
            yield run_check("token", lambda: nodes.check_token(reports, address))
            ranks = spec.resources.workers if spec else None
            if ranks != 1:
                yield run_check("compiler", lambda: nodes.check_compiler(reports, ranks))
            yield run_check("gloo", lambda: nodes.check_all_reduce("gloo", reports))
            if any(report.gpus for report in reports):
                yield run_check("nccl", lambda: nodes.check_all_reduce("nccl", [r for r in reports if r.gpus]))
            if space:
                yield from space.examine_layers(reports)
                yield from space.examine_with(address)
    except Exception as error:
        yield ray_failed(address, error)


def preflight(space: "ExaminedSpace", address: str | None, join: Callable[[], None]) -> Iterator[Finding]:
    """What a sweep is checked for; `join` joins its Ray. The task is read before that: it takes no time.

    Raises UserError, one line, for the first that has failed: nothing is trained then, and nothing left behind.
    """

    def examined() -> Iterator[Finding]:
        yield run_check("versions", environment.check_versions)
        yield from examine_places(space.place, space.spec.tracking.uri)
        yield run_check("task", space.check_task)
        yield from examine_joined(space, address, join)

    for finding in examined():
        if finding.level == FAILED:
            key = KEYS.get(finding.check, "")
            raise UserError(key + finding.text + (f"; {finding.mend}" if finding.mend else ""))
        yield finding


def examine_places(place: str, mlflow: str | None) -> Iterator[Finding]:
    """What is written to: storage, MLflow, cache."""
    yield run_check("storage", lambda: environment.check_storage(place))
    yield run_check("mlflow", lambda: environment.check_mlflow(mlflow or environment.default_mlflow(place)))
    yield run_check("cache", environment.check_cache)


class ExaminedSpace:
    """A space under examination: the model is tried, room and resources are counted once Ray is joined.

    `untrained`: the model, once it has been loaded.
    """

    def __init__(self, spec: "SweepSpec", place: str) -> None:
        self.spec, self.place = spec, place
        self.untrained: Any = None
        self._texts: Any = None

    def examine_files(self) -> Iterator[Finding]:
        """What task and model are, of which the one needs the other."""
        found = run_check("task", self.check_task)
        yield found
        if found.level != FAILED:
            yield run_check("model", self.check_model)

    def check_task(self) -> Finding:
        """The examples can be read."""
        from spd_ray.data.tasks import load_task  # here: it imports PyArrow

        self._texts = load_task(self.spec.task)
        train, dev = (len(part.labels) for part in (self._texts.train, self._texts.dev))
        return Finding(OK, "task", f"{self._texts.task.name}: {train:,} training and {dev:,} dev examples")

    def check_model(self) -> Finding:
        """The model fits the task and the method."""
        from spd_ray.checks.model_fit import check_model  # here: it imports torch
        from spd_ray.checks.untrained import load_untrained

        self.untrained = load_untrained(self.spec, self._texts)
        return check_model(self.spec, self.untrained)

    def examine_with(self, address: str | None) -> Iterator[Finding]:
        """What a trial asks for is there, or will be, and there is room for what it takes."""
        from spd_ray.base.ray_cluster import capacity
        from spd_ray.checks.room import check_room
        from spd_ray.config.auto import resolve

        have = capacity(address)
        spec = resolve(self.spec, have)
        found = run_check("resources", lambda: nodes.check_resources(spec.resources, have))
        yield found
        if self.untrained and found.level != FAILED:
            yield run_check("room", lambda: check_room(spec, self.untrained, self.place, have))

    def examine_layers(self, reports: Sequence[NodeReport]) -> Iterator[Finding]:
        """Where layers are compiled, every node can."""
        if self.spec.engine.compile_layers:
            yield run_check("layers", lambda: nodes.check_layers({one.address: one.compiles for one in reports}))


def examine_joined(space: ExaminedSpace, address: str | None, join: Callable[[], None]) -> Iterator[Finding]:
    """Join Ray, then try the model, for whose check much is imported meanwhile; count room and resources.

    On a cluster the nodes are asked, on this machine alone only where several ranks need a compiler.
    """
    try:
        join()
    except UserError:
        raise
    except Exception as error:
        yield ray_failed(address, error)
        return
    yield run_check("model", space.check_model)
    yield from space.examine_with(address)
    ranks = space.spec.resources.workers
    if address is None and space.spec.engine.compile_layers:
        yield run_check("layers", lambda: nodes.check_layers({"this machine": nodes.compiles_layers()}))
    if address is None and ranks == 1:
        return
    with nodes.shared_place(environment.nearest_existing(space.place)) as shared:
        reports = nodes.ask_nodes(shared)
        if address is not None:
            yield from examine_nodes(reports, shared, space.place)
            yield from space.examine_layers(reports)
        if ranks > 1:
            yield run_check("compiler", lambda: nodes.check_compiler(reports, ranks))


def examine_nodes(reports: Sequence[NodeReport], shared: str, place: str) -> Iterator[Finding]:
    """Every node has the driver's versions, its devices, and sees the storage."""
    yield run_check("nodes", lambda: nodes.check_nodes(reports))
    yield run_check("shared", lambda: nodes.check_shared(reports, shared, place))
    yield run_check("devices", lambda: nodes.check_devices(reports))


def ray_failed(address: str | None, error: Exception) -> Finding:
    text = f"{address or 'a cluster of this machine'}: {describe_error(error)}"
    return Finding(FAILED, "ray", text, RAY_MEND)
