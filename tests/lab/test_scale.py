"""What a crowd takes on paper adds up, and the simulation agrees with what can be said without."""

from __future__ import annotations

import pytest

from earshot.lab.scale import Costs, Stream, branches, levels, listeners_of_node, node_cores, plan, simulate


def test_a_node_is_filled_to_its_bound() -> None:
    costs, stream = Costs(), Stream()
    most = listeners_of_node(stream, costs)
    assert node_cores(most, stream, costs) <= costs.busy < node_cores(most + 2, stream, costs)
    assert listeners_of_node(Stream(frames=1), costs) < most < listeners_of_node(Stream(frames=6), costs)
    assert listeners_of_node(stream, Costs(line_mbit=1.0)) == int(800 / stream.wire_kbps)


@pytest.mark.parametrize(("nodes", "most", "depth"), [(1, 10, 0), (2, 10, 1), (11, 10, 1), (12, 10, 2), (111, 10, 2)])
def test_a_tree_has_as_many_levels_as_it_needs(nodes: int, most: int, depth: int) -> None:
    assert levels(nodes, most) == depth


def test_without_spread_the_simulation_is_arithmetic() -> None:
    costs = Costs(hop_ms=(1.0, 1.0), publish_us=100.0)
    assert simulate(2, 10, costs, 1.0) == {"p50_ms": 1.1, "p99_ms": 1.1, "slowest_node_p50_ms": 1.1}
    assert simulate(11, 10, costs, 1.0)["slowest_node_p50_ms"] == 2.0
    assert simulate(1 + 10 + 100, 10, costs, 1.0)["slowest_node_p50_ms"] == 4.0


def test_more_listeners_take_more_of_everything() -> None:
    costs, stream = Costs(), Stream()
    small, large = plan(10_000, stream, costs), plan(1_000_000, stream, costs)
    assert large["nodes"] > 90 * small["nodes"]
    assert large["levels"] > small["levels"] > 0
    assert large["nodes"] > branches(stream, costs)
    assert large["wire_gbit_s"] == pytest.approx(100 * small["wire_gbit_s"], rel=0.05)
