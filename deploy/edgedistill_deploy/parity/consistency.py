"""Checks before any accuracy: the model file must fit the bundle, and images must be decoded here as in training."""

from collections.abc import Iterator
from pathlib import Path

from edgedistill_deploy.bundle.folder import GOLDEN_IMAGES, Bundle
from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.images import golden
from edgedistill_deploy.images.golden import GoldenDifference, Prepare
from edgedistill_deploy.onnx_files.content import Arithmetic, read_arithmetic, read_metadata
from edgedistill_deploy.records.parity import Check, NotChecked

_PREPROCESS, _CLASS_NAMES = "edgedistill.preprocess", "edgedistill.class_names"  # metadata
_PRECISION = "precision_of_the_file"


def check_consistency(
    bundle: Bundle, model: Path, precision: str, prepare: Prepare | None = None
) -> tuple[Check | NotChecked, ...]:
    """Compare a model file's metadata with the manifest, and the golden images with this device's results for them.

    The file must also compute in the `precision` that it is registered for. `prepare` turns the bytes of an image file
    into the model's input, uint8 (H, W, 3); by default Pillow does it by the bundle's contract. What metadata or golden
    images that are missing leave open is named as not checked.
    """
    metadata = read_metadata(model)
    return (
        *_metadata_checks(bundle, model.name, metadata),
        _precision_check(model, precision),
        _golden_check(bundle, prepare),
    )


def _metadata_checks(bundle: Bundle, name: str, metadata: dict[str, str]) -> Iterator[Check | NotChecked]:
    yield _preprocess_check(bundle, name, metadata.get(_PREPROCESS))
    yield _class_names_check(bundle, name, metadata.get(_CLASS_NAMES))


def _preprocess_check(bundle: Bundle, name: str, given: str | None) -> Check | NotChecked:
    if given is None:
        detail = f"Not checked, because {name} does not say for which preprocessing it was made; export it again."
        return NotChecked(name="preprocess_digest", detail=detail)
    wanted = bundle.preprocess.digest
    fits = given == wanted
    detail = f"{name} and the manifest agree on the preprocessing, {wanted[:12]}."
    if not fits:
        start = f"{name} was made for the preprocessing {given[:12]}"
        detail = f"{start}, but the manifest describes {wanted[:12]}; export it again."
    return Check(name="preprocess_digest", passed=fits, detail=detail)


def _class_names_check(bundle: Bundle, name: str, text: str | None) -> Check | NotChecked:
    if text is None:
        return NotChecked(
            name="class_names", detail=f"Not checked, because {name} does not name its classes; export it again."
        )
    return compare_names("class_names", name, _names(text), bundle.class_names)


def named_classes(model: Path) -> tuple[str, ...] | None:
    """Return the classes that a model file names in its metadata; None if it names none."""
    text = read_metadata(model).get(_CLASS_NAMES)
    return None if text is None else _names(text)


def compare_names(check: str, owner: str, given: tuple[str, ...], wanted: tuple[str, ...]) -> Check:
    """Compare the class names that `owner` holds with the manifest's, order included; `check` names the result."""
    if given == wanted:
        detail = f"{owner} and the manifest name the same {len(wanted)} classes in the same order."
        return Check(name=check, passed=True, detail=detail)
    if len(given) != len(wanted):
        detail = f"{owner} names {len(given)} classes, but the manifest {len(wanted)}; export it again."
        return Check(name=check, passed=False, detail=detail)
    pairs = [(theirs, ours) for theirs, ours in zip(given, wanted, strict=True) if theirs != ours]
    shown = ", ".join(f"{theirs!r} where the manifest says {ours!r}" for theirs, ours in pairs[:5])
    more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    order = " The names are the same, in another order." if set(given) == set(wanted) else ""
    return Check(name=check, passed=False, detail=f"{owner} says {shown}{more}.{order}")


def _names(text: str) -> tuple[str, ...]:
    try:
        names = parse_json(text)
    except ValueError:
        return ()
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _precision_check(model: Path, precision: str) -> Check:
    found = read_arithmetic(model)
    problem = _misfit(found, precision)
    if problem:
        detail = f"{model.name} is registered as {precision}, but it has {problem}; calibrate or export it again."
        return Check(name=_PRECISION, passed=False, detail=detail)
    holds = f"{found.quantised_count} quantised nodes and {found.float16_count} tensors or casts in float16"
    return Check(name=_PRECISION, passed=True, detail=f"{model.name} has {holds}, as {precision} must.")


def _misfit(found: Arithmetic, precision: str) -> str:
    """Return what a file lacks or has too much for its precision."""
    quantised, half = computes_in(precision) == "int8", "fp16" in precision
    if quantised and not found.quantised_count:
        return "no quantised node"
    if half and not found.float16_count:
        return "no tensor in float16"
    if found.quantised_count and not quantised:
        return f"{found.quantised_count} quantised nodes"
    if found.float16_count and not (half or quantised):  # a runtime may take the mixed file for INT8
        return f"{found.float16_count} tensors or casts in float16"
    return ""


def _golden_check(bundle: Bundle, prepare: Prepare | None) -> Check | NotChecked:
    entry = bundle.manifest["files"].get(GOLDEN_IMAGES)
    # The device may have the model without them.
    if entry is None or not (bundle.path / str(entry["path"])).exists():
        detail = "Not checked, because the bundle has no golden images to decode and scale; export it again."
        return NotChecked(name="golden_images", detail=detail)
    images = golden.read_golden_images(bundle.file(GOLDEN_IMAGES))
    results = golden.compare_golden_images(images, prepare or golden.device_preparation(bundle.preprocess))
    failed = [result for result in results if not result.passed]
    start = f"{len(results)} image files, decoded and scaled here, came out as in training"
    if failed:
        start = "This device does not prepare image files as training did"
    shown = "; ".join(map(_describe_difference, failed or results))
    return Check(name="golden_images", passed=not failed, detail=f"{start}: {shown}.")


def _describe_difference(result: GoldenDifference) -> str:
    if result.problem:
        return f"{result.name}: {result.problem.rstrip('.')}"
    return (
        f"{result.name} differs by at most {result.max_abs_difference} (allowed {result.tolerance}) in "
        f"{result.differing_share or 0.0:.1%} of the values"
    )
