"""The equation of state of seven metals: energies side by side, a fit that asks for more where it must, table and plot.

    python examples/metals.py [--store DIR] [--workers N] [--local]
    towline run examples/metals.py --store runs/metals --workers 2

For each fcc metal of ASE's EMT potential the energy is computed at 11 volumes, one job each, around a lattice constant
guessed from the covalent radius. The guess is poor for some (aluminium: 14 % too small). Where the lowest energy lies
near the end of the volumes, or beyond it, there is no good fit: the job detours into 21 finer ones around the lowest.

Kill it at any moment and start it again with the same store: it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from towline import Flow, Job, Response, UsageError, job, resume, run, settings

METALS = ["Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"]

COARSE, FINE = 11, 21
"""Volumes of the first round, and of each further one."""

SPAN = 0.05
"""Lattice constants reach this far to both sides of the middle, relative to it."""


@job
def energy(metal: str, a: float) -> tuple[float, float]:
    """Volume (Å³) and energy (eV) of one atom in an fcc crystal with the lattice constant `a` (Å)."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    crystal = bulk(metal, "fcc", a=a)
    crystal.calc = EMT()
    return float(crystal.get_volume()), float(crystal.get_potential_energy())


def sampled(metal: str, middle: float, points: int) -> tuple[Flow, Job]:
    """Energies at `points` lattice constants around `middle` (Å), and the fit through them."""
    step = 2 * SPAN / (points - 1)
    energies = [energy(metal, middle * (1 - SPAN + i * step)) for i in range(points)]
    fitted = fit(metal, [e.output for e in energies])
    return Flow([*energies, fitted], name=f"{metal} at {points} volumes"), fitted


@job
def fit(metal: str, samples: list[tuple[float, float]]) -> dict[str, Any] | Response[Any]:
    """The Birch-Murnaghan equation of state through (volume, energy), or a detour that leads to a better one.

    The output has `a` (Å), `bulk_modulus` (GPa) and the samples; or `finer`, the output of the detour's own fit.
    """
    from ase.eos import EquationOfState
    from ase.units import kJ

    lowest = min(range(len(samples)), key=lambda i: samples[i][1])
    margin = len(samples) // 5
    if not margin <= lowest < len(samples) - margin:
        more, finer = sampled(metal, lattice_constant(samples[lowest][0]), FINE)
        # The output names one that is not there yet: whoever reads it waits for the detour and finds the value in it.
        return Response(output={"metal": metal, "finer": finer.output}, detour=more)
    volumes, energies = zip(*samples, strict=True)
    volume, _, curvature = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    return {
        "metal": metal,
        "a": lattice_constant(float(volume)),
        "bulk_modulus": float(curvature / kJ * 1e24),
        "samples": samples,
    }


def lattice_constant(volume: float) -> float:
    """Å, of an fcc crystal with this volume (Å³) an atom: four of them fill the cube."""
    return float((4 * volume) ** (1 / 3))


@job
def tabulate(fits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a metal: what its last fit found, and how many detours it took to get there."""
    rows = []
    for found in fits:
        detours = 0
        while "finer" in found:
            found, detours = found["finer"], detours + 1
        rows.append({**found, "detours": detours})
    return rows


@job
def plot(rows: list[dict[str, Any]]) -> bytes:
    """A PNG: energy against lattice constant, each metal around its own minimum.

    Returned and not written: on a cluster this runs on another machine. What a job returns is kept in the store.
    """
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="lattice constant / equilibrium", ylabel="energy above the minimum (eV per atom)")
    for row in rows:
        bottom = min(e for _, e in row["samples"])
        lengths = [lattice_constant(v) / row["a"] for v, _ in row["samples"]]
        axes.plot(lengths, [e - bottom for _, e in row["samples"]], "o-", ms=3, label=f"{row['metal']}  {row['a']:.3f} Å")
    axes.legend(title="fcc, EMT")
    FigureCanvasAgg(figure).print_png(png := io.BytesIO())
    return png.getvalue()


def guess(metal: str) -> float:
    """A lattice constant (Å) for atoms that touch: the covalent radius is all that is asked for."""
    from ase.data import atomic_numbers, covalent_radii

    return float(covalent_radii[atomic_numbers[metal]] * 8**0.5)


def study(metals: list[str]) -> Flow:
    """The whole flow. Its uuid and those of table and plot are fixed, so that a second start finds them again."""
    parts = [sampled(metal, guess(metal), COARSE) for metal in metals]
    table = tabulate([fitted.output for _, fitted in parts])
    table.set_uuid("metals-table")
    picture = plot(table.output)
    picture.set_uuid("metals-plot")
    return Flow([*(flow for flow, _ in parts), table, picture], name="metals", uuid="metals")


def show(rows: list[dict[str, Any]]) -> None:
    """The table, on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table("metal", title="fcc metals, EMT potential, Birch-Murnaghan")
    for heading in ("lattice constant (Å)", "bulk modulus (GPa)", "detours"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row["metal"], f"{row['a']:.3f}", f"{row['bulk_modulus']:.1f}", str(row["detours"]))
    Console().print(table)


def main() -> None:
    """Begin the study, or go on with the one that the store holds; then show what came out."""
    words = argparse.ArgumentParser(description="The equation of state of seven metals.")
    words.add_argument("--store", help="where the run is kept (default: runs/metals)")
    words.add_argument("--workers", type=int, help="worker processes (default: one a core)")
    words.add_argument("--local", action="store_true", help="in this process, without Ray")
    args = words.parse_args()

    # a script's own words are stronger than those of `towline run`, so the default comes last
    store = args.store or settings.current().store or "runs/metals"
    try:
        done = run(study(METALS), store=store, workers=args.workers, local=args.local)
    except UsageError:
        # a store that holds this flow refuses it a second time; anything else that is wrong, resume says again
        done = resume(store, workers=args.workers, local=args.local)

    show(done.output("metals-table"))
    # beside the store if that is a directory here
    png = Path("metals.png" if "://" in store else f"{store.rstrip('/')}.png")
    png.parent.mkdir(parents=True, exist_ok=True)
    png.write_bytes(done.output("metals-plot"))
    print(f"plot:  {png}")
    print(f"store: {store}  (look at it: towline status {store})")


if __name__ == "__main__":
    main()
