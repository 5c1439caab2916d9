"""The policy servers of a cluster begin, also where a node goes just then."""

from collections.abc import Sequence
from typing import Any

import pytest

from gemma_metamon.showdown.players.contestants import Contestant, scripted

pytestmark = pytest.mark.slow


def test_a_server_on_a_node_that_is_dead_before_the_cluster_knows_begins_elsewhere(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gemma_metamon.cluster import serving
    from gemma_metamon.cluster.connecting import living_nodes

    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    nodes = living_nodes()
    assert len(nodes) == 2
    monkeypatch.setattr(serving, "living_nodes", lambda: nodes)  # or Ray may be quick to hear of it
    cluster.remove_node(node, allow_graceful=False)
    servers = serving.PolicyServers(lambda room: [scripted("RandomPlayer")])
    try:
        assert len(servers.servers) == 2
        assert servers.contestants == [None]
    finally:
        servers.close()


def test_a_server_that_cannot_begin_anywhere_is_one_sentence(cluster: Any) -> None:
    from gemma_metamon.cluster.serving import PolicyServers

    def fails(room: int) -> Sequence[Contestant]:
        raise RuntimeError(f"no room for {room}")

    with pytest.raises(RuntimeError, match="no room for"):
        PolicyServers(fails)
