"""`vfab`: nouns and verbs. Each noun's file is imported when it is used, so that `vfab --help` stays fast."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TYPER_USE_RICH", "0")  # plain help: rich costs 90 ms at every start

import typer
from typer.core import TyperGroup

from vfab.apps.cli.lean import lean
from vfab.model.alike import alike

__all__ = ["app", "main"]

COMMANDS = {
    "demo": "Plot a drawing on a simulated plotter, and measure what the pen drew.",
    "plot": "Draw an SVG file on a plotter.",
    "capture": "Take a picture with a camera.",
    "measure": "Measure with an instrument.",
    "stream": "Show, record or serve what a device sends continuously.",
    "driver": "Drivers: list, info, test, run one's own commands.",
    "device": "Devices: scan, list, and one step at a time from init to close.",
    "sim": "Simulated devices: list, run.",
    "plugin": "Plugins: begin one, check one.",
    "config": "Settings of drivers: show, set, check, schema.",
    "up": "Run the node, which keeps devices as wanted.",
    "status": "Tell whether a node runs, what it keeps and what it left out.",
    "down": "End the node.",
    "bench": "Measure vfab beside its peers.",
}
"""What there is, each in `vfab.apps.cli.<name>` as `app`, with its line of help."""


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The names there are."""
        return [name for name in COMMANDS if _module(name)]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The command `cmd_name`; imports its file."""
        if cmd_name not in COMMANDS or not _module(cmd_name):
            return None
        module = import_module(f"vfab.apps.cli.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return lean(command)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command that `args` begin with. What typer raises has the nearest names."""
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:
            near = alike(args[0], self.list_commands(ctx), 2, 0.5)
            if near and hasattr(error, "message"):
                error.message += f" Did you mean {' or '.join(map(repr, near))}?"
            raise

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """The list in the help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _module(name: str) -> bool:
    return find_spec(f"vfab.apps.cli.{name}") is not None


_first = sys.argv[1:2]
app = typer.Typer(
    cls=LazyGroup,
    name="vfab",
    # typer reads even absent options by pydantic, 60 ms; those of completion are only there where they can be meant
    add_completion=not _first or _first[0].startswith("-") or "_VFAB_COMPLETE" in os.environ,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Every command has --help with an example. VFAB_HOME (default ~/.vfab) holds settings, plugins and state.",
)


def _version(wanted: bool) -> None:
    if wanted:
        import vfab

        typer.echo(f"vfab {vfab.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Run device drivers: find the hardware, pick the driver, run it in a process of its own, command it."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _print_anything()
    try:
        result = lean(typer.main.get_command(app)).main(args=arguments, prog_name="vfab", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) and not isinstance(result, bool) else 0
    except BrokenPipeError:
        return _pipe_closed()
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):
            return _pipe_closed()
        raise
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\nvfab: interrupted\n")
        return 130
    except Exception as error:
        return _failed(error, "--json" in arguments)


def _print_anything() -> None:
    """Where the locale has no ² or ×, print a question mark, rather than fail in the middle of a plot."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _pipe_closed() -> int:
    """Whoever read our output has seen enough: that is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _failed(error: Exception, as_json: bool) -> int:
    from vfab.apps.cli.output import print_error
    from vfab.kernel.places import home_of
    from vfab.model.errors import ConfigurationError, DriverError, DriverFailed

    if os.environ.get("VFAB_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, DriverError):
        print_error(error, as_json)
        return error.exit_code
    if type(error).__name__ == "NoArgsIsHelpError" and not as_json:
        sys.stderr.write(f"{error}\n")  # `vfab driver`: its help, which is no error to a person
        return 2
    if hasattr(error, "format_message"):  # what typer refuses: an unknown option, a value of the wrong type
        context = getattr(error, "ctx", None)
        remedy = f"`{context.command_path} --help` shows what it takes." if context is not None else "See vfab --help."
        usage = ConfigurationError(error.format_message(), remedy=remedy, context={"usage": True})
        usage.code = "usage"  # type: ignore[misc]
        print_error(usage, as_json)
        return 2
    if isinstance(error, OSError):
        where = {"file": str(error.filename)} if error.filename else {}
        remedy = "Check that the path exists and that this user may use it."
        if error.filename and Path(str(error.filename)).is_relative_to(home_of(os.environ)):
            remedy = "Make it writable by this user, or set VFAB_HOME to a folder that is."
        translated = DriverError(f"{error.strerror or error}", context=where, remedy=remedy, original_error=error)
        translated.code = "os_error"  # type: ignore[misc]
        print_error(translated, as_json)
        return 1
    remedy = "This is a defect of vfab: run it again with VFAB_DEBUG=1 and report what it prints."
    print_error(DriverFailed(f"{type(error).__name__}: {error}", remedy=remedy), as_json)
    return 70


if __name__ == "__main__":
    sys.exit(main())
