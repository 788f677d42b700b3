"""The command line: `voip call`, `answer`, `register`, `demo`, `doctor`, `bench`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from voip.cli.answer import answer
from voip.cli.bench_media import bench_media
from voip.cli.call import call
from voip.cli.register import register

__all__ = ["app", "main"]

app = typer.Typer(
    help="A headless softphone, and a laboratory for testing PBXes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(call)
app.command()(answer)
app.command()(register)

bench = typer.Typer(help="Measure this software on this machine.", no_args_is_help=True)
bench.command("media")(bench_media)
app.add_typer(bench, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"voip {version('voip-softphone')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `voip` program."""
    app()
