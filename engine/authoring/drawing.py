"""Flows as networkx graphs, and as pictures. networkx and matplotlib are loaded only here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from networkx import DiGraph

    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job
    from towline.engine.authoring.reference import OutputReference


def graph_of_job(job: Job) -> DiGraph:
    """A node for the job and an edge for each job that it takes something from."""
    from networkx import DiGraph

    graph = DiGraph()
    _add(graph, job)
    return graph


def graph_of_flow(flow: Flow) -> DiGraph:
    """All jobs of a flow. Nodes carry `job` and `label` ("external" outside the flow), edges the `properties` taken."""
    from networkx import DiGraph

    from towline.engine.flows import Plan

    graph = DiGraph()
    plan = Plan(flow, allow_external_references=True)
    for job in plan.jobs:
        _add(graph, job)
    for node in graph:
        if "label" not in graph.nodes[node]:
            graph.nodes[node]["label"] = "external"
    for place, parents in plan.ordering.items():
        for parent in parents:
            edge = plan.jobs[parent].uuid if parent >= 0 else None, plan.jobs[place].uuid
            if edge[0] is not None and not graph.has_edge(*edge):
                graph.add_edge(*edge, properties="")
    return graph


def _add(graph: DiGraph, job: Job) -> None:
    graph.add_node(job.uuid, job=job, label=job.name)
    for uuid, refs in job.input_references_grouped.items():
        graph.add_edge(uuid, job.uuid, properties=_properties(refs))


def _properties(refs: Sequence[OutputReference]) -> list[str] | str:
    """What of an output is taken: the last step of each path, or "output" for the whole."""
    steps = [ref.attributes_formatted[-1].strip("[].") for ref in refs if ref.attributes]
    return steps[0] if len(steps) == 1 else steps or "output"


def draw_graph(
    graph: DiGraph, layout_function: Callable[[DiGraph], Any] | None = None, figsize: tuple[float, float] = (12, 8)
) -> Any:
    """Draw a flow's graph, parents above children unless a layout is given; gives matplotlib.pyplot."""
    import matplotlib.pyplot as plt
    import networkx as nx

    place = layout_function(graph) if layout_function is not None else _layers(graph)
    plt.figure(figsize=figsize)
    nx.draw_networkx(
        graph,
        place,
        labels=nx.get_node_attributes(graph, "label"),
        node_color="#8fb8de",
        edgecolors="black",
        font_size=9,
    )
    nx.draw_networkx_edge_labels(graph, place, nx.get_edge_attributes(graph, "properties"), rotate=False)
    plt.gca().axis("off")
    return plt


def _layers(graph: DiGraph) -> dict[str, tuple[float, float]]:
    import networkx as nx

    for layer, nodes in enumerate(nx.topological_generations(graph)):
        for node in nodes:
            graph.nodes[node]["layer"] = -layer
    placed: dict[str, tuple[float, float]] = nx.multipartite_layout(graph, "layer", align="horizontal")
    return placed
