"""Whether files of weights that a user named are there at all, before a library opens them. No torch."""

from pathlib import Path

from edgedistill.models.libraries.messages import INSTEAD_OF_START
from edgedistill_deploy.errors import DataError, UsageError


def require_weights_file(path: Path) -> None:
    """Raise DataError where there is no file of weights."""
    if not path.is_file():
        raise DataError(f"There is no weights file {path}; give a .safetensors file or a PyTorch state dict.")


def require_start_files(path: Path) -> None:
    """Raise UsageError where there is neither a file of weights nor a folder in timm's layout to start from."""
    if not (path / "model.safetensors" if path.is_dir() else path).is_file():
        lacking = f"The folder {path} has no model.safetensors" if path.is_dir() else f"There is no {path}"
        raise UsageError(f"{lacking} to start the student from; {INSTEAD_OF_START}.")
