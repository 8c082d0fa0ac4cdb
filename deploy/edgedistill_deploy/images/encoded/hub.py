"""Data sets of Hugging Face's hub, through their library `datasets`: its cache, and its variables for offline work."""

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.errors import DataError, EdgeDistillError, MissingDependencyError, UsageError, nearest_names
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.reaching import require_reachable
from edgedistill_deploy.images.encoded._class_names import name_classes, read_class_names
from edgedistill_deploy.images.encoded._split_names import split_named
from edgedistill_deploy.images.encoded.patterns import split_options
from edgedistill_deploy.images.encoded.sets import EncodedImages, build_encoded_images
from edgedistill_deploy.images.sets import NO_LABEL, ImageSplits

OPTIONS = ("config", "image", "label", "classes")
_LABELS = ("label", "labels", "fine_label", "class", "category", "target")
_OTHERWISE = "fetch it where there is a network, and copy the cache of the hub here (HF_HOME names its folder)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HubContents:
    """Rows of a data set, which the library maps from its cache; processes share these pages."""

    rows: Any = field(repr=False)
    column: str
    called: str

    def __len__(self) -> int:
        return len(self.rows)

    def source(self, row: int) -> Path | bytes:
        """Return an image's bytes, or its file where the data set consists of files."""
        image: Mapping[str, Any] = self.rows[row][self.column] or {}
        if image.get("bytes") is not None or not image.get("path"):
            return bytes(image.get("bytes") or b"")
        return Path(image["path"])

    def name(self, row: int) -> str:
        """Return the data set, its split and the row, such as "hf:beans train row 17"."""
        return printable(f"{self.called} row {row}")


def open_hub(name: str, *, labels: bool = True) -> ImageSplits:
    """Open "OWNER/NAME", with "?config=NAME&image=COLUMN&label=COLUMN&classes=FILE" where it needs these.

    The library fetches the data set once, into its own cache, and takes it from there afterwards. Splits keep their
    names: train, validation (val, dev) and test; a data set with one split of another name is all `train`. Without
    `labels`, there need be no column of labels, all rows count, and none has a label.

    Raises UsageError for a name, a column or a config that is not there, DataError where the data set is not on this
    machine and the hub cannot be asked, MissingDependencyError without the library.
    """
    repository, options = split_options(name, OPTIONS)
    splits = _load(repository, options)
    called = f"hf:{repository}"
    chosen = _name_splits(list(splits), called)
    build = _build if labels else _build_unlabelled
    sets = {split: build(splits[own], f"{called} {own}", options) for split, own in chosen.items()}
    class_names = _agree([each.class_names for each, _ in sets.values()], called)
    empty = next(iter(sets.values()))[0].select([])
    others = [each for each in splits if each not in chosen.values()]
    notes = (f"Splits of {called} passed over: {', '.join(others)}.",) if others else ()
    return ImageSplits(
        class_names=class_names,
        train=sets["train"][0] if "train" in sets else empty,
        validation=sets["validation"][0] if "validation" in sets else None,
        test=sets["test"][0] if "test" in sets else None,
        notes=(*notes, *(note for _, note in sets.values() if note)),
    )


def must_fetch(name: str) -> bool:
    """Return whether the data set is still to be fetched. Raises DataError within seconds where that cannot be."""
    repository, _ = split_options(name, OPTIONS)
    library = _library()
    if _is_fetched(library, repository):
        return False
    _require_hub(library, f"The images of hf:{repository}")
    return True


def _is_fetched(library: Any, repository: str) -> bool:
    """Return whether the library's cache has a folder of the data set; it may lack the config that is asked for."""
    owner, slash, own = repository.rpartition("/")
    called = library.naming.camelcase_to_snakecase(own)
    return (Path(str(library.config.HF_DATASETS_CACHE)) / f"{owner}{'___' if slash else ''}{called}").is_dir()


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise MissingDependencyError("datasets", "hf", "A data set of Hugging Face's hub (hf:)") from error


def _load(repository: str, options: Mapping[str, str]) -> Mapping[str, Any]:
    """Load all splits, from the cache if it has them and else from the hub."""
    library = _library()
    if repository.count("/") > 1 or not repository.replace("/", ""):
        raise UsageError(
            f"hf:{repository} is no data set of the hub; name OWNER/NAME, or a local file with parquet:FILE."
        )
    if Path(repository).exists():
        raise UsageError(
            f"{repository} is on this machine; name it without hf:, or its files with parquet:{repository}."
        )
    what = f"The images of hf:{repository}"
    with _quiet(library), _explaining(library, repository, what):
        with _offline(library):
            if _is_fetched(library, repository):
                with contextlib.suppress(Exception):  # what the cache lacks is fetched below, and that error is told
                    return _ask(library, repository, options)
        _require_hub(library, what)
        return _ask(library, repository, options)


def _require_hub(library: Any, what: str) -> None:
    if library.config.HF_HUB_OFFLINE:
        raise DataError(
            f"{what} are not on this machine, and HF_HUB_OFFLINE or HF_DATASETS_OFFLINE forbids to fetch them; "
            f"{_OTHERWISE}."
        )
    require_reachable(str(library.config.HF_ENDPOINT), what, _OTHERWISE)


def _ask(library: Any, repository: str, options: Mapping[str, str]) -> Mapping[str, Any]:
    return dict(library.load_dataset(repository, options.get("config")))


@contextlib.contextmanager
def _explaining(library: Any, repository: str, what: str) -> Iterator[None]:
    try:
        yield
    except EdgeDistillError:
        raise
    except (ValueError, library.exceptions.DatasetNotFoundError) as error:
        raise UsageError(f"hf:{repository} cannot be opened: {_first_line(error)}.") from error
    except Exception as error:  # the library and its clients raise many kinds
        raise DataError(f"{what} could not be fetched ({_first_line(error)}); {_OTHERWISE}.") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")


@contextlib.contextmanager
def _offline(library: Any) -> Iterator[None]:
    """Keep the library and the hub's client off the network inside the block; both ask these before each request."""
    places = (library.config, importlib.import_module("huggingface_hub").constants)
    before = [each.HF_HUB_OFFLINE for each in places]
    for each in places:
        each.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for each, value in zip(places, before, strict=True):
            each.HF_HUB_OFFLINE = value


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Silence retries inside the block, which one error replaces, and bars where nobody watches a terminal."""
    logs = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [log.level for log in logs]
    hides_bars = library.is_progress_bar_enabled() and not sys.stderr.isatty()
    for log in logs:
        log.setLevel(logging.ERROR)
    if hides_bars:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        if hides_bars:
            library.enable_progress_bars()


def _name_splits(names: Sequence[str], called: str) -> dict[str, str]:
    """Return {our split: the data set's name of it}."""
    found: dict[str, str] = {}
    for name in names:
        if split := split_named(name):
            found.setdefault(split, name)
    if not found and len(names) == 1:
        return {"train": names[0]}
    if not found:
        raise DataError(f"{called} has the splits {', '.join(names)}; one must be called train, validation or test.")
    return found


def _build(rows: Any, called: str, options: Mapping[str, str]) -> tuple[EncodedImages, str]:
    """Return a split as a set, and a note on rows without a label."""
    library = _library()
    image = _image_column(rows, called, options.get("image", ""), library)
    label = _label_column(rows, called, options.get("label", ""), image)
    kind = rows.features[label]
    names: Sequence[str] = kind.names if isinstance(kind, library.ClassLabel) else ()
    if "classes" in options:
        names = read_class_names(options["classes"])
    values = rows.with_format(None)[label][:]
    known = np.array([value is not None and value != -1 and value != "" for value in values], dtype=np.bool_)
    if not known.any():
        names = tuple(names) or ("unknown",)
        class_names, found = tuple(names), np.zeros(0, dtype=np.int64)
    else:
        texts = [str(value).strip() for value, there in zip(values, known, strict=True) if there]
        class_names, found = name_classes(texts, names, called)
    labels = np.full(len(values), -1, dtype=np.int64)
    labels[known] = found
    contents = HubContents(rows=_undecoded(rows, image, library), column=image, called=called)
    without = int((~known).sum())
    note = f"Rows of {called} without a label passed over: {without}." if without else ""
    return build_encoded_images(class_names, labels, contents).select(known), note


def _build_unlabelled(rows: Any, called: str, options: Mapping[str, str]) -> tuple[EncodedImages, str]:
    """Return a split as a set whose images have no label, whatever its columns say."""
    library = _library()
    image = _image_column(rows, called, options.get("image", ""), library)
    contents = HubContents(rows=_undecoded(rows, image, library), column=image, called=called)
    return build_encoded_images((), np.full(len(rows), NO_LABEL, dtype=np.int64), contents), ""


def _undecoded(rows: Any, image: str, library: Any) -> Any:
    """Return the column of images alone, each as its file's bytes."""
    return rows.select_columns([image]).cast_column(image, library.Image(decode=False)).with_format(None)


def _image_column(rows: Any, called: str, asked: str, library: Any) -> str:
    images = [name for name, kind in rows.features.items() if isinstance(kind, library.Image)]
    if asked and asked not in rows.column_names:
        raise UsageError(f"{called} has no column {asked!r}.{nearest_names(asked, rows.column_names)}")
    if asked or len(images) == 1:
        return asked or images[0]
    listed = ", ".join(images or rows.column_names)
    raise UsageError(f"{called} has {len(images)} columns of images ({listed}); name one with ?image=COLUMN.")


def _label_column(rows: Any, called: str, asked: str, image: str) -> str:
    others = [name for name in rows.column_names if name != image]
    if asked and asked not in others:
        raise UsageError(f"{called} has no column {asked!r} for the label.{nearest_names(asked, others)}")
    found = asked or next((name for name in _LABELS if name in others), others[0] if len(others) == 1 else "")
    if not found:
        raise UsageError(f"{called} has the columns {', '.join(rows.column_names)}; name the label with ?label=COLUMN.")
    return found


def _agree(lists: Sequence[tuple[str, ...]], called: str) -> tuple[str, ...]:
    if len(set(lists)) > 1:
        raise DataError(f"The splits of {called} have different classes; name them in a file with ?classes=FILE.")
    return lists[0]
