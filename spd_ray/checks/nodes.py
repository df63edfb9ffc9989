"""What the doctor asks of every node of a Ray cluster: versions, devices, storage, token, all-reduce."""

import importlib.metadata as metadata
import importlib.util
import os
import shutil
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spd_ray.base import network
from spd_ray.base.errors import counted
from spd_ray.base.network import join_place
from spd_ray.base.user_code import packages_that_add as adding
from spd_ray.checks.finding import FAILED, OK, WARNING, Finding, describe_error

if TYPE_CHECKING:  # its package may be missing, which the doctor is to say
    from spd_ray.config.execution import ResourcesConfig

PACKAGES = ("spd_ray", "ray", "torch", "deepspeed", "transformers", "datasets", "pyarrow", "numpy")
ANSWER_SECONDS = 120.0  # how long nodes may take: a cold import of a CUDA build of torch takes a minute
NVIDIA = Path("/dev/nvidiactl")
ELEMENTS = 2**20  # of the tensor that is summed over the nodes: 4 MiB


class NodeReport(NamedTuple):
    """What a node reports about itself."""

    node_id: str
    address: str
    versions: dict[str, str | None]  # Python's among them
    cpus: float  # as Ray counts them
    ray_gpus: float
    gpus: list[str]  # names, as torch sees them
    nvidia: bool  # whether there is an NVIDIA device
    builds: bool  # whether a C++ compiler and ninja are found
    auth: str  # RAY_AUTH_MODE
    compiles: bool  # whether torch.compile finds what it needs


def version_of(package: str) -> str | None:
    """The installed version without its local part (`+cpu`); None if there is none."""
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard what native libraries of Ray and torch write past Python's logging: the findings say what matters."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def ray_connection(address: str | None) -> Iterator[None]:
    """Join the Ray cluster at `address`, or start one of this machine, for the duration of the block."""
    if address not in (None, "auto"):
        host, _, port = str(address).rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    from spd_ray.base.ray_cluster import join_ray, leave_ray

    join_ray(address, "CRITICAL")
    try:
        yield
    finally:
        leave_ray()


@contextmanager
def shared_place(place: str) -> Iterator[str]:
    """A new folder in the storage, for every node to find and to write to."""
    from spd_ray.records.storage import SweepStorage

    mine = join_place(place, f".doctor-{uuid.uuid4().hex}")
    storage = SweepStorage(mine, "doctor")
    with suppress(OSError):  # the storage check has said so
        storage.folder.mkdir(parents=True)
    try:
        yield mine
    finally:
        with suppress(OSError):
            storage.drop(storage.folder)


def task_on_node(function: Any, node_id: str) -> Any:
    """`function` as a Ray task on that node, whatever else runs there, in a process of its own."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0, max_calls=1, max_retries=0, scheduling_strategy=there)(function)


def ask_nodes(place: str) -> list[NodeReport]:
    """The reports of all nodes that are alive, the driver's first."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    alive.sort(key=lambda node: node["NodeID"] != ray.get_runtime_context().get_node_id())
    asked = [
        task_on_node(report, node["NodeID"]).remote(
            node["NodeID"], node["NodeManagerAddress"], node["Resources"], place
        )
        for node in alive
    ]
    return ray.get(asked, timeout=ANSWER_SECONDS)


def report(node_id: str, address: str, resources: dict[str, float], place: str) -> NodeReport:
    """Runs on a node. Writes a file of the node's name into `place`, if the node sees it."""
    gpus = []
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides the GPUs from a task that asks for none
    with suppress(Exception):
        import torch

        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    with suppress(OSError):
        from spd_ray.records.storage import SweepStorage

        storage = SweepStorage(place, node_id)
        storage.clear_copy()
        (storage.folder / node_id).touch()
        storage.send(storage.folder / node_id)
    return NodeReport(
        node_id=node_id,
        address=address,
        versions={"Python": sys.version.split()[0], **{name: version_of(name) for name in (*PACKAGES, *adding())}},
        cpus=resources.get("CPU", 0),
        ray_gpus=resources.get("GPU", 0),
        gpus=gpus,
        nvidia=NVIDIA.exists(),
        builds=bool(shutil.which("ninja") and (shutil.which("c++") or shutil.which("g++"))),
        auth=os.environ.get("RAY_AUTH_MODE", "").lower(),
        compiles=compiles_layers(),
    )


def compiles_layers() -> bool:
    """Whether this machine has the C++ compiler that torch.compile calls, and for an NVIDIA GPU Triton, too."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    return compiler is not None and (not NVIDIA.exists() or importlib.util.find_spec("triton") is not None)


def check_nodes(reports: Sequence[NodeReport]) -> Finding:
    """Every node has the driver's versions."""
    first, wrong = reports[0], []
    for node in reports[1:]:
        differ = [
            f"{name} {node.versions.get(name) or 'missing'} (here {first.versions.get(name) or 'missing'})"
            for name in dict.fromkeys([*node.versions, *first.versions])
            if node.versions.get(name) != first.versions.get(name)
        ]
        wrong += [f"{node.address}: {', '.join(differ)}"] if differ else []
    if wrong:
        return Finding(FAILED, "nodes", "; ".join(wrong), "install the same constraints.txt on every node")
    return Finding(OK, "nodes", f"{len(reports)} ({', '.join(node.address for node in reports)}), same versions")


def check_shared(reports: Sequence[NodeReport], mine: str, storage: str) -> Finding:
    """The driver sees what every node wrote."""
    from spd_ray.records.storage import SweepStorage

    shared = SweepStorage(mine, "doctor")
    shared.fetch(shared.folder)
    blind = [node.address for node in reports if not (shared.folder / node.node_id).exists()]
    if blind:
        mend = "mount the same file system there, at the same path, or give the nodes the rights to the store"
        return Finding(FAILED, "shared", f"{storage} is not shared with, or not writable on, {', '.join(blind)}", mend)
    return Finding(OK, "shared", f"{storage}: what every node writes is seen here")


def check_token(reports: Sequence[NodeReport], address: str | None) -> Finding:
    """Nobody joins the cluster without its token."""
    open_nodes = [node.address for node in reports if node.auth != "token"]
    if open_nodes and address:
        text = f"{', '.join(open_nodes)}: no token is asked for; who reaches the ports can run code there"
        return Finding(
            FAILED, "token", text, "RAY_AUTH_MODE=token before every ray start, the token file on every node"
        )
    if open_nodes:
        return Finding(WARNING, "token", "Ray asks for no token on this machine", "unset RAY_AUTH_MODE")
    return Finding(OK, "token", "every node asks for the token")


def check_devices(reports: Sequence[NodeReport]) -> Finding:
    """The devices that Ray assigns exist."""
    wrong = [
        f"{node.address}: Ray counts {node.ray_gpus:g} GPUs, torch sees {len(node.gpus)}"
        for node in reports
        if node.ray_gpus != len(node.gpus) or (node.nvidia and not node.gpus)
    ]
    if wrong:
        mend = "nvidia-smi there; a CUDA build of torch; ray start --num-gpus"
        return Finding(FAILED, "devices", "; ".join(wrong), mend)
    cpus = sum(node.cpus for node in reports)
    names = Counter(name for node in reports for name in node.gpus)
    gpus = ", ".join(f"{count} x {name}" for name, count in names.items()) or "no GPU (trials run on CPUs)"
    return Finding(OK, "devices", f"{cpus:g} CPUs, {gpus}")


def check_resources(asked: "ResourcesConfig", have: Mapping[str, float]) -> Finding:
    """The CPUs and GPUs that Ray counts hold at least one trial."""
    trial, slots = asked.per_trial(), asked.slots(have)
    there = f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}"
    text = f"resources: a trial wants {trial['CPU']:g} CPUs and {trial['GPU']:g} GPUs, "
    if slots < 1:
        mend = "lower resources.workers, resources.cpus_per_worker or resources.gpus_per_worker"
        return Finding(FAILED, "resources", f"{text}but there are {there}", mend)
    at_once = min(slots, asked.concurrent or slots)
    return Finding(OK, "resources", f"{text}there are {there}: {counted(at_once, 'trial')} at once")


def check_compiler(reports: Sequence[NodeReport], ranks: int | None = None) -> Finding:
    """DeepSpeed compiles an operator when several ranks share a machine's CPUs for the first time; one needs none.

    `ranks` of a trial, where they are known: where they are not, or are on GPUs, it is a warning.
    """
    without = [node for node in reports if not node.builds]
    if not without:
        return Finding(OK, "compiler", "ninja and a C++ compiler on every node")
    text = f"{', '.join(node.address for node in without)}: no ninja or no C++ compiler on the PATH"
    mend = "trials of several ranks on CPUs need both: apt-get install g++, pip install ninja, and both on the PATH"
    is_needed = ranks is not None and ranks > 1 and not all(node.gpus for node in without)
    return Finding(FAILED if is_needed else WARNING, "compiler", text, mend)


def check_layers(compiles: Mapping[str, bool]) -> Finding:
    """Where trials' layers are compiled, every machine can, by its name."""
    without = [name for name, does in compiles.items() if not does]
    if not without:
        return Finding(OK, "layers", "torch.compile finds a C++ compiler on every node")
    text = f"engine.compile_layers: {', '.join(without)}: no C++ compiler (g++, or what CXX names)"
    mend = "apt-get install g++, or set the key to false"
    return Finding(FAILED, "layers", f"{text}, or no Triton for the GPU", mend)


def check_all_reduce(backend: str, reports: Sequence[NodeReport]) -> Finding:
    """A sum over one process a node; over two of the node where there is but one (with NCCL: two GPUs)."""
    import ray
    from torch.distributed import TCPStore

    ranks = list(reports)
    if len(ranks) == 1 and (backend == "gloo" or len(ranks[0].gpus) > 1):
        ranks = ranks * 2
    host = ray.util.get_node_ip_address()
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
    asked = [
        task_on_node(sum_over_ranks, node.node_id).remote(
            backend, host, store.port, rank, len(ranks), node.address, rank if len(reports) == 1 else 0
        )
        for rank, node in enumerate(ranks)
    ]
    try:
        seconds = max(ray.get(asked, timeout=ANSWER_SECONDS))
    except Exception as error:
        mend = "open all ports between the nodes; set GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME to their common network"
        return Finding(FAILED, backend, f"no all-reduce over {len(ranks)} processes: {describe_error(error)}", mend)
    where = f"{len(ranks)} processes on {len(reports)} node" + "s" * (len(reports) > 1)
    return Finding(OK, backend, f"all-reduce of 4 MiB over {where}: right, {seconds * 1000:.0f} ms")


def sum_over_ranks(backend: str, host: str, port: int, rank: int, world: int, address: str, gpu: int) -> float:
    """Runs on a node. Seconds that the second of two sums took; raises if a sum is wrong."""
    import torch
    from torch import distributed

    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    for name, value in network.collective_interfaces(address).items():
        os.environ.setdefault(name, value)
    store = distributed.TCPStore(host, port, is_master=False)
    limit = timedelta(seconds=ANSWER_SECONDS - 5)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
    try:
        for _ in range(2):
            tensor = torch.full((ELEMENTS,), rank + 1.0, device=f"cuda:{gpu}" if backend == "nccl" else "cpu")
            start = time.perf_counter()
            distributed.all_reduce(tensor)
            if not bool((tensor == world * (world + 1) / 2).all()):
                raise ValueError("the sum is wrong")
            seconds = time.perf_counter() - start
        return seconds
    finally:
        distributed.destroy_process_group()
