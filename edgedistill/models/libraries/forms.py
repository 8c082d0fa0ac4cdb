"""The forms of teachers' names that no list can hold: models of the hub, folders, and code of one's own. No torch."""

from pathlib import Path
from typing import NoReturn

from edgedistill_deploy.errors import UsageError

HUB = "hf-hub:"


def check_hub_form(name: str) -> None:
    """Refuse hf-hub:NAME without its owner; `name` is what follows timm:."""
    if name.removeprefix(HUB).count("/") != 1:
        raise UsageError(f"A model of the hub is named timm:hf-hub:OWNER/NAME, and timm:{name} was given.")


def check_transformers_form(name: str) -> None:
    """Refuse what is neither OWNER/NAME nor a folder; `name` is what follows transformers:."""
    if not Path(name).is_dir() and name.count("/") != 1:
        raise UsageError(f"transformers:{name} is neither OWNER/NAME of the hub nor an existing folder.")


def refuse_features(name: str) -> NoReturn:
    """Raise UsageError for a teacher whose trained weights give features and no logits."""
    raise UsageError(
        f"The trained weights of {name} end before the logits, so they tell no classes apart. Choose weights that "
        "were trained on classes, or give a file of your own with --teacher-weights."
    )


def split_function(target: str) -> tuple[str, str]:
    """Return (MODULE, FUNCTION); `target` is what follows python:."""
    module, _, function = target.partition(":")
    if not (module and function):
        raise UsageError(f"A teacher of your own is named python:MODULE:FUNCTION, and python:{target} was given.")
    return module, function


def require_code_allowed(name: str, allowed: bool) -> None:
    """Raise UsageError unless the user allowed to run the code that a teacher names."""
    if not allowed:
        raise UsageError(
            f"The teacher {name} runs Python code of yours, or of whoever wrote the settings; if you trust it, give "
            "--allow-code on the command line."
        )
