"""The `voip` program: its commands, and how the wrong use of one is answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TextIO, cast

import typer

from voip.cli import options
from voip.cli.answer import answer
from voip.cli.bench_codecs import bench_codecs
from voip.cli.bench_media import bench_media
from voip.cli.bench_mix import bench_mix
from voip.cli.bench_quality import bench_quality
from voip.cli.bench_report import CompareFile
from voip.cli.bench_sim import bench_sim
from voip.cli.bench_sip import bench_sip
from voip.cli.call import call
from voip.cli.demo import demo
from voip.cli.devices import devices
from voip.cli.doctor import doctor
from voip.cli.jitter import jitter
from voip.cli.register import register
from voip.cli.run import print_json, telling, warn
from voip.errors import ConfigError

__all__ = ["app", "main"]

WRONG_USE: Final = 2
"""Exit status for options and arguments that cannot be."""

# Typer's public names hold one kind of wrong use only; this is what all kinds are.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    help="A headless softphone, and a laboratory for testing PBXes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(call)
app.command()(answer)
app.command()(register)
app.command()(demo)
app.command()(devices)
app.command()(doctor)
app.command()(jitter)

bench = typer.Typer(help="Measure this software on this machine.")
_COMPARED: Final[dict[str, Callable[..., None]]] = {
    "codecs": bench_codecs,
    "mix_us_per_tick": bench_mix,
    "tick_lateness_ms": bench_media,
    "parse_route_per_s": bench_sip,
}
"""Benchmarks by a figure that only their report has."""


@bench.callback(invoke_without_command=True)
def _bench(
    context: typer.Context, as_json: options.JsonFlag = False, earlier: CompareFile = None
) -> None:
    if context.invoked_subcommand is not None:
        if earlier is not None or as_json:
            raise _UsageError("The benchmark's options stand behind its name.", ctx=context)
        return
    if earlier is None:
        raise _UsageError("Missing command.", ctx=context)
    from voip.harness.bench.comparison import read_earlier

    with telling(as_json=as_json):
        found = [again for figure, again in _COMPARED.items() if figure in read_earlier(earlier)]
        if not found:
            raise ConfigError(f"{earlier} is of no benchmark that compares", hint="voip bench")
    found[0](as_json=as_json, earlier=earlier)


bench.command("codecs")(bench_codecs)
bench.command("mix")(bench_mix)
bench.command("media")(bench_media)
bench.command("quality")(bench_quality)
bench.command("sim")(bench_sim)
bench.command("sip")(bench_sip)
app.add_typer(bench, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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
    with Path(os.devnull).open("w") as nowhere:  # they are None where a shell has closed them (>&-)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        status = _run(sys.argv[1:] or ["--help"], nowhere)
    sys.exit(status)


def _run(arguments: list[str], nowhere: TextIO) -> int | None:
    """Carry out a command; returns the exit status, None for 0. `nowhere`: what takes all."""
    if not sys.stdout.isatty():
        app.rich_markup_mode = None  # plain help
    try:
        status = cast("int | None", app(arguments, prog_name="voip", standalone_mode=False))
        sys.stdout.flush()
        return status
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else f"voip {arguments[0]}"
        message = f"{error.format_message().rstrip('.')} ({command} --help)"
        if "--json" in arguments:
            print_json({"error": message, "code": "usage"})
        warn(message)
        return WRONG_USE
    except typer.Abort:
        return 130
    except OSError as error:  # no room for what is printed, no file or socket left
        # or the interpreter complains of it at its end
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        warn(error.strerror or str(error))
        return 1
