"""A command group that knows its commands' names and help without importing them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from skeet.core.errors import InvalidInput

COMPLETION = ("install_completion", "show_completion")


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: ``target`` is ``module:attribute``, a typer application or a plain function with annotations.

    ``help`` is what the parent's list shows; the command's own help is its function's docstring.
    """

    name: str
    target: str
    help: str
    panel: str = "Commands"

    def load(self) -> Any:
        """The command, ready to be invoked.

        Raises
        ------
        InvalidInput
            the part of SKEET or the library behind it is not installed.
        """
        module, _, attribute = self.target.partition(":")
        try:
            loaded = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise InvalidInput(f"`skeet {self.name}` needs {error.name}, which is not installed here") from error
        if not isinstance(loaded, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(self.name)(loaded)
            loaded = single
        else:
            _keep_group(loaded)
        command = typer.main.get_command(loaded)
        command.name = self.name
        # Every typer application offers to install shell completion; only a root could.
        command.params = [parameter for parameter in command.params if parameter.name not in COMPLETION]
        return command


class LazyGroup(TyperGroup):
    """A group over a table of entries. Its list is made of stand-ins; resolving a name loads the real command."""

    entries: ClassVar[tuple[Entry, ...]] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the table's order."""
        return [entry.name for entry in self.entries]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The loaded command, or a stand-in that carries name and help only."""
        entry = next((entry for entry in self.entries if entry.name == cmd_name), None)
        if entry is None or cmd_name in self.commands:
            return self.commands.get(cmd_name)
        return TyperCommand(name=entry.name, help=entry.help, rich_help_panel=entry.panel)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments the list is the answer, and the call was wrong all the same (exit code 2)."""
        if not args:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list in plain sections: to load what draws the commands' own frames takes longer than all else here."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each panel, in the table's order."""
        width = max(len(entry.name) for entry in self.entries)
        for panel in dict.fromkeys(entry.panel for entry in self.entries):
            with formatter.section(typer.style(panel, bold=True)):
                formatter.write_dl([(f"{e.name:{width}}", e.help) for e in self.entries if e.panel == panel])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command named by the first argument, then resolve as usual."""
        entry = next((entry for entry in self.entries if entry.name == args[0]), None)
        if entry is not None and entry.name not in self.commands:
            self.commands[entry.name] = entry.load()
        return super().resolve_command(ctx, args)


def _keep_group(app: typer.Typer) -> None:
    """An application of one command stays a group, so that ``skeet sim stats`` does not become ``skeet sim``."""
    if app.registered_callback is None:
        app.callback()(_no_action)


def _no_action() -> None:
    return None
