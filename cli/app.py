"""The command `slimpath` and its verbs. Importing this loads none of the libraries that the verbs work with."""

from __future__ import annotations

from typing import Annotated

import typer

from . import (
    adapt,
    add_task,
    calibrate,
    compile,
    convert,
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    loadtest,
    merge,
    plan,
    run,
    serve,
    stream,
    train,
)

HELP = """One vision model, many tasks, any budget.

A request names its tasks and its budget; only the path through the model that those two pay for is executed.

\b
Start here:
  slimpath demo                          real photographs at three widths
  slimpath run room.jpg --tasks depth    one task of your own image
  slimpath plan --budget 0.5             what half the cost buys
"""

app = typer.Typer(
    name="slimpath",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("stream")(stream.stream)
app.command("serve")(serve.serve)
app.command("loadtest")(loadtest.loadtest)
app.command("calibrate")(calibrate.calibrate)
app.command("doctor")(doctor.doctor)
app.command("inspect")(inspect.inspect)
app.command("export")(export.export)
app.command("convert")(convert.convert)
app.command("compile")(compile.compile)
app.command("train")(train.train)
app.command("adapt")(adapt.adapt)
app.command("add-task")(add_task.add_task)
app.command("merge")(merge.merge)
app.command("eval")(evaluate.evaluate)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"slimpath {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: the console script and `python -m slimpath`."""
    app()
