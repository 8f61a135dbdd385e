"""Flows as networkx graphs, and as pictures."""

from __future__ import annotations

from tests.kit.samples import add, give
from towline.engine.authoring.flow import Flow, JobOrder
from towline.engine.authoring.reference import OutputReference


def test_a_graph_names_what_is_taken() -> None:
    one = add(1)
    two = give([one.output.a, one.output["b"], OutputReference("outside")])
    three = give(two.output)
    graph = Flow([one, two, three]).graph
    assert dict(graph.nodes(data="label")) == {
        one.uuid: "add",
        two.uuid: "give",
        three.uuid: "give",
        "outside": "external",
    }
    assert graph.nodes[one.uuid]["job"] is one
    assert graph.edges[one.uuid, two.uuid]["properties"] == ["a", "'b'"]
    assert graph.edges[two.uuid, three.uuid]["properties"] == "output"


def test_linear_order_is_in_the_graph() -> None:
    one, two = add(1), add(2)
    inner = Flow([one, two])
    three = give(one.output.x)
    graph = Flow([inner, three], order=JobOrder.LINEAR).graph
    assert dict(graph.edges) == {
        (one.uuid, three.uuid): {"properties": "x"},
        (two.uuid, three.uuid): {"properties": ""},
    }


def test_a_graph_can_be_drawn() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    one = add(1)
    plt = Flow([one, give(one.output)]).draw_graph(figsize=(2, 2))
    assert {text.get_text() for text in plt.gca().texts} == {"add", "give", "output"}
    plt.close("all")
