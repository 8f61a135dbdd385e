"""`towline run SCRIPT.py` and `towline resume STORE`.

A script is run as `__main__`, in this process, with the options as defaults of its calls of `towline.run`. If it starts
no run but leaves a flow in the variable `flow`, that flow is run.
"""

from __future__ import annotations

import sys
import traceback
import types
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.common import StoreArgument, StoreOption, named
from towline.engine.errors import TowlineError, UsageError

Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; left out: one a core.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster (auto, ray://...); left out: an own local Ray.")]
Local = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")]
Takeover = Annotated[bool, typer.Option("--takeover", help="Take the store from a leader that still lives.")]


def run(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT.py", help="Calls towline.run, or leaves a flow in `flow`.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS]", help="For the script, in sys.argv.")] = None,
    store: StoreOption = None,
    workers: Workers = None,
    address: Address = None,
    local: Local = False,
    takeover: Takeover = False,
) -> None:
    """Run a script; the options are the defaults of the runs in it."""
    from towline import orders, session, settings

    if not script.is_file():
        raise UsageError(f"there is no script {script}")
    with settings.override(store=store, workers=workers, address=address, local=local, takeover=takeover):
        before = orders.launches
        module = execute(script, args or [])
        if orders.launches == before:
            session.run(flow_in(module, script))


def resume(
    store: StoreArgument = None,
    store_option: StoreOption = None,
    workers: Workers = None,
    address: Address = None,
    local: Local = False,
    takeover: Takeover = False,
) -> None:
    """Go on with the run in a store, to its end. Returns at once if nothing is left to run."""
    from towline import session, settings

    url = named(store, store_option)
    with settings.override(workers=workers, address=address, local=local, takeover=takeover):
        before = session.resume(url)
    if before.state == "completed":
        print(f"{url}: completed, {before.status()['total']} jobs")


def execute(script: Path, args: list[str]) -> types.ModuleType:
    """Run a script as `__main__`, which it stays: its functions are looked up and pickled through that later on."""
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    sys.argv = [str(script), *args]
    sys.path.insert(0, str(script.parent.absolute()))
    try:
        code = compile(script.read_bytes(), str(script), "exec")
        exec(code, module.__dict__)  # noqa: S102 - running the user's script is what the command is for
    except (TowlineError, TimeoutError, ConnectionError):
        raise
    except Exception as error:
        # the frames of the script and below, as `python SCRIPT.py` would show them
        below = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, below)
        raise typer.Exit(1) from None
    return module


def flow_in(module: types.ModuleType, script: Path) -> Any:
    """The flow, job or list of jobs that the script left in its variable `flow`."""
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

    flow = getattr(module, "flow", None)
    jobs = flow if isinstance(flow, list | tuple) and flow else [flow]
    if not all(isinstance(one, Flow | Job) for one in jobs):
        raise UsageError(f"{script} neither started a run nor left a Flow, a Job or a list of them in the variable `flow`")
    return flow
