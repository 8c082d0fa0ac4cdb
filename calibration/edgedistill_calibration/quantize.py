"""From the float student of a bundle to its INT8 files: ranges measured once, written for two runtimes."""

import contextlib
import functools
import importlib
import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_calibration.config import CANDIDATES, CalibrationConfig
from edgedistill_calibration.dataset import CalibrationSet, content_key, select_calibration
from edgedistill_calibration.ledger import Figures, LedgerStep, compare_logits, write_ledger
from edgedistill_deploy import __version__
from edgedistill_deploy.bundle import Bundle, model_role
from edgedistill_deploy.errors import BundleError, MissingDependencyError
from edgedistill_deploy.files import written_whole
from edgedistill_deploy.images import ImageSet, batches
from edgedistill_deploy.preprocess import Preprocess
from edgedistill_deploy.reference import read_reference
from edgedistill_deploy.session import logits_of, open_model

Progress = Callable[[int, int], None]
Images = NDArray[np.uint8]
WRITTEN = ("int8", "int8-tensorrt")
BATCH = 32
# Below this the INT8 model answers otherwise so often that whoever reads the record should be told.
LOW_AGREEMENT = 0.95


def calibrate(
    bundle: Bundle,
    images: ImageSet,
    config: CalibrationConfig | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Write `model.int8.onnx` (for ONNX Runtime) and `model.int8-tensorrt.onnx` from `model.fp32.onnx`.

    Ranges are measured once, on a seeded sample of the training images, spread evenly over the classes, and both files
    are judged against the float model on further training images. What was done and how it came out is the manifest's
    `calibration`, and `ledger.json`. With the same images, model, settings and libraries as last time nothing is done.

    Args:
        bundle: has `model.fp32`.
        images: the TRAINING images; those of other classes than the bundle's are ignored, as are images that the
            bundle's reference judges the student on.
        config: settings.
        progress: called with (done, total) images.

    Returns:
        The bundle with roles `model.int8`, `model.int8-tensorrt` and `ledger`.

    Raises:
        UsageError: `images` lacks a class of the bundle, or fewer images are asked for than the classes need.
        DataError: a class has too few training images, or an image cannot be read.
        BundleError: the bundle has no `model.fp32`, or a damaged one.
        EdgeDistillError: the model cannot be brought to INT8.
        MissingDependencyError: onnx or onnxruntime is not installed.
    """
    _require_libraries()
    from edgedistill_calibration._qdq import write_candidates
    from edgedistill_calibration.ranges import write_ranges

    config = config or CalibrationConfig()
    source = bundle.file(model_role("fp32"))
    sample = _select(bundle, images, config)
    plan = _plan(bundle, sample, config)
    if _is_done(bundle, plan):
        return bundle
    prepared = _Preparation(preprocess=bundle.preprocess, advance=_counter(progress, sample, config))
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        groups = functools.partial(prepared.batches, sample.images)
        tried = write_candidates(source, Path(folder), groups, bundle.preprocess.size, config, plan["key"])
        candidates = _judge(source, tried.files, sample.held_out, prepared)
        chosen = max(candidates, key=lambda each: each.rank)
        # From here until all is written, what the manifest says of the last calibration is not true.
        bundle = bundle.with_fields(calibration={})
        for precision, path in chosen.files.items():
            bundle = _keep(bundle, precision, path)
        ranges_file = bundle.path / "calibration" / "ranges.json"
        write_ranges(ranges_file, tried.ranges, chosen.method, plan["model_sha256"])
        bundle = bundle.with_file("ranges", ranges_file)
    bundle = write_ledger(bundle, _steps(bundle, chosen))
    return bundle.with_fields(calibration={**plan, **_outcome(sample, candidates, chosen)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preparation:
    """Prepares images batch by batch and says how many were used."""

    preprocess: Preprocess
    advance: Callable[[int], None]

    def batches(self, images: ImageSet, batch_size: int) -> Iterator[Images]:
        for batch in batches(images, self.preprocess, batch_size):
            yield batch
            self.advance(len(batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to choose ranges: its files by precision, how they and `fp32` did on the held-out images."""

    method: str
    files: Mapping[str, Path]
    figures: Mapping[str, Figures]

    @property
    def rank(self) -> tuple[float, float]:
        """That of the worse of its files, so that neither runtime pays for the other."""
        return min(self.figures[precision].rank for precision in self.files)


def _require_libraries() -> None:
    for library in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(library, "quantize", "Calibration")


def _select(bundle: Bundle, images: ImageSet, config: CalibrationConfig) -> CalibrationSet:
    if images.class_names != bundle.class_names:
        images = images.with_classes(bundle.class_names)
    judged = read_reference(bundle.file("reference")).digests.tolist() if bundle.has("reference") else ()
    return select_calibration(images, config.images, config.seed, held_out=config.held_out, exclude=judged)


def _plan(bundle: Bundle, sample: CalibrationSet, config: CalibrationConfig) -> dict[str, Any]:
    """Return everything that decides the result: the same plan gives the same files."""
    libraries = {name: importlib.import_module(name).__version__ for name in ("numpy", "onnx", "onnxruntime")}
    return {
        "key": sample.key(bundle.preprocess),
        "held_out_key": content_key(sample.held_out, bundle.preprocess),
        "model_sha256": bundle.model_sha256(model_role("fp32")),
        "settings": asdict(config),
        "versions": {"edgedistill": __version__, **libraries},
    }


def _is_done(bundle: Bundle, plan: Mapping[str, Any]) -> bool:
    recorded = bundle.manifest.get("calibration", {})
    if any(recorded.get(name) != value for name, value in plan.items()):
        return False
    try:
        return all(bundle.file(role).is_file() for role in (*map(model_role, WRITTEN), "ledger", "ranges"))
    except BundleError:
        return False


def _counter(
    progress: Progress | None, sample: CalibrationSet, config: CalibrationConfig
) -> Callable[[int], None]:
    from edgedistill_calibration.ranges import needs_histograms

    passes = 1 + needs_histograms(CANDIDATES[config.method])
    total = passes * len(sample.images) + len(sample.held_out)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def _judge(
    source: Path, files: Mapping[str, Mapping[str, Path]], held_out: ImageSet, prepared: _Preparation
) -> list[Candidate]:
    """Compare every file with the float model on the held-out images, which are prepared once for all."""
    models = {source: "fp32"} | {path: name for written in files.values() for name, path in written.items()}
    logits = _run_all(models, held_out, prepared)
    judged = {path: compare_logits(logits[source], given, held_out.labels) for path, given in logits.items()}
    return [
        Candidate(
            method=method,
            files=written,
            figures={"fp32": judged[source], **{name: judged[path] for name, path in written.items()}},
        )
        for method, written in files.items()
    ]


def _run_all(
    models: Mapping[Path, str], images: ImageSet, prepared: _Preparation
) -> dict[Path, NDArray[np.float32]]:
    """Return each model's logits (N, C): the first image alone, the rest in batches, since both must run."""
    first, rest = images.select([0]), images.select(range(1, len(images)))
    parts: dict[Path, list[NDArray[np.float32]]] = {path: [] for path in models}
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(open_model(path, precision=precision)) for path, precision in models.items()
        ]
        for batch in itertools.chain(prepared.batches(first, 1), prepared.batches(rest, BATCH)):
            for session in sessions:
                parts[session.model_path].append(logits_of(session, batch))
    return {path: np.concatenate(part) for path, part in parts.items()}


def _keep(bundle: Bundle, precision: str, made: Path) -> Bundle:
    role = model_role(precision)
    path = bundle.path / f"{role}.onnx"
    with written_whole(path) as temporary:
        shutil.copyfile(made, temporary)
    return bundle.with_file(role, path)


def _steps(bundle: Bundle, chosen: Candidate) -> list[LedgerStep]:
    return [
        LedgerStep(stage=stage, model_sha256=bundle.model_sha256(model_role(stage)), figures=figures)
        for stage, figures in chosen.figures.items()
    ]


def _outcome(sample: CalibrationSet, candidates: Sequence[Candidate], chosen: Candidate) -> dict[str, Any]:
    low = [
        f"{model_role(name)}.onnx and the float model agree on {chosen.figures[name].agreement:.1%} of held-out images."
        for name in chosen.files
        if chosen.figures[name].agreement < LOW_AGREEMENT
    ]
    return {
        "image_count": len(sample.images),
        "per_class": sample.per_class,
        "held_out_count": len(sample.held_out),
        "method": chosen.method,
        "candidates": [
            {"method": each.method, **{name: asdict(each.figures[name]) for name in each.files}}
            for each in candidates
        ],
        "notes": [*sample.notes, *low],
    }
