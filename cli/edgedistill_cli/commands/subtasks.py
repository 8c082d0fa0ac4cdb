"""`subtasks`: the subtasks that have a name, listed and searched."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Text = Annotated[
    str | None, typer.Argument(metavar="[TEXT]", help="Words of a name, or a class to look for.", show_default=False)
]
Teacher = Annotated[
    str | None, flag("--teacher", "NAME", "Show only subtasks with at least two classes of this teacher.")
]
TeacherClasses = Annotated[Path | None, flag("--teacher-classes", "FILE", "The teacher's labels, one a line.")]


def subtasks(
    text: Text = None, *, teacher: Teacher = None, teacher_classes: TeacherClasses = None, console: Console
) -> None:
    """List and search the subtasks that have a name, such as imagenet/bird, with their classes.

    `--subtask NAME` of build, distill, compare and inspect takes these names.
    """
    from edgedistill_cli.studies.subtasks import find_offers, show_offers, subtasks_record

    offers = find_offers(text or "", teacher or "", teacher_classes)
    console.emit(subtasks_record(offers, text, teacher))
    show_offers(offers, console)
