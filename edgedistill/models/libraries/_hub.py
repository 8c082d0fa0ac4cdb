"""Weights from the network: what is on this machine is used first, and a machine without network is told at once."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

import torch

from edgedistill.models.libraries.messages import first_line
from edgedistill.models.libraries.reach import is_cached, require_hub
from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.files.reaching import require_reachable

T = TypeVar("T")


def from_hub(build: Callable[[], T], repository: str, what: str, otherwise: str) -> T:
    """Build something from the hub: with the files that are on this machine if they suffice, else with fetched ones.

    Args:
        build: called with the hub's client kept off the network if the cache has files of the repository, and once more
            with it if they do not suffice.
        repository: OWNER/NAME on the hub; empty for files of another server.
        what: the subject of the error message, in the plural.
        otherwise: what the user can do if the files cannot be fetched, as the end of a sentence.

    Raises:
        DataError: the files are not here, and the hub cannot be reached or must not be asked.
    """
    from huggingface_hub import constants

    with quiet_hub():
        if is_cached(repository) and (built := _build_offline(build, constants)) is not None:
            return built
        if repository:
            require_hub(what, otherwise)
        try:
            return build()
        except EdgeDistillError:
            raise
        except Exception as error:  # no such file, no pretrained weights, a broken download
            raise DataError(f"{what} could not be fetched ({first_line(error)}); {otherwise}.") from error


def require_file_of(url: str, what: str, otherwise: str) -> None:
    """Raise DataError if torch's cache lacks the file of a URL and its server cannot be reached."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not cached.is_file():
        require_reachable(url, what, otherwise)


def _build_offline(build: Callable[[], T], constants: Any) -> T | None:
    """Build from the cache; None if it lacks a file or one is damaged, for which both libraries raise many kinds."""
    with _offline(constants):
        try:
            return build()
        except EdgeDistillError:
            raise
        except Exception:  # noqa: BLE001  # the same is tried with the network, and that error is told
            return None


@contextlib.contextmanager
def _offline(constants: Any) -> Iterator[None]:
    """Keep the hub's client off the network inside the block; it asks this constant before each request."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence the hub's client inside the block: it logs each retry, and one error replaces these lines."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
