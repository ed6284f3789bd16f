"""The options of a command in groups, as its help lists them."""

from collections.abc import Callable
from typing import Any

import click

__all__ = ["GENERAL", "GroupedCommand", "grouped"]

# Of the options without a group: --help is one of them.
GENERAL = "General"
ORDER = (
    *("Sweep", "Data", "Model", "Training", "Run"),
    *("Evaluation", "Annealed importance sampling", "Local optimization"),
    *("Parts of the work", "Convergence", "Without a training run"),
    *("Classification", "Encoder", "Requests", GENERAL),
)
# The widest column of names, as click's own; longer names have a line of their own.
NAME_WIDTH = 30


class _GroupedOption(click.Option):
    """An option that knows the group that it is listed in."""

    def __init__(self, *names: Any, group: str, **settings: Any) -> None:
        """Makes the option of click, whose settings these are."""
        super().__init__(*names, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options in groups, in the order of ORDER."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, with one column of names for all groups."""
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups[getattr(parameter, "group", GENERAL)].append(record)
        names = [name for records in groups.values() for name, _ in records]
        width = max(len(name) for name in names if len(name) <= NAME_WIDTH)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), text) for name, text in records])


def grouped(group: str, *names: str, **settings: Any) -> Callable[[Any], Any]:
    """Makes an option that is listed in a group.

    Args:
        group: the title of the group, one of ORDER.
        names: as of click.option.
        settings: as of click.option.
    """
    return click.option(*names, cls=_GroupedOption, group=group, **settings)
