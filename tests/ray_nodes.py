"""A Ray cluster of several nodes on this machine."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from ray._raylet import AuthenticationTokenLoader, Config
from ray.cluster_utils import Cluster

from tests.sweeps import trial_processes


@contextmanager
def head_and_two_nodes() -> Iterator[Cluster]:
    """A head without CPUs and two nodes with one each.

    It asks for a token, as a private Ray does: a process remembers whether its Ray does, whatever the variable says.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
        made.shutdown()


def processes_on(node: Any, name: str) -> list[psutil.Process]:
    """The workers on a node of the cluster that run what has this name."""
    return trial_processes(psutil.Process(node.all_processes["raylet"][0].process.pid), name)


def groups_of_places(cluster: Cluster) -> list[str]:
    """The states of the placement groups that are not removed."""
    found = [group["state"] for group in cluster.global_state.placement_group_table().values()]
    return [state for state in found if state != "REMOVED"]
