"""The faults that are planted and the healthy variants, each as a change of a copy of a sound bundle."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted_faults import experts, plants
from edgedistill.models.teacher import Teacher
from edgedistill_calibration import calibrate
from edgedistill_deploy.bundle.folder import GOLDEN_IMAGES, Bundle, open_bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import Reference, read_golden, read_reference, write_golden, write_reference
from edgedistill_deploy.images.arrays import ArrayImages
from reference.planted_faults import Plant, planted

Make = Callable[["Sound", Bundle], Bundle]
NONE = ""
_COLOUR_NAMES = {"swapped_channels", "grey_input"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A change of a bundle. `causes` are the names that are right for it, in one string; a healthy variant has none."""

    what: str
    make: Make
    precision: str = "fp32"
    causes: str = NONE
    threads: int = 1
    least_agreement: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A task with its sound bundle, and what other bundles of it are made from when a case needs them."""

    task: experts.Task
    folder: Path

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher that the bundle was made with."""
        return experts.train_teacher(self.task)

    @cached_property
    def bundle(self) -> Bundle:
        """The sound bundle."""
        return experts.make_bundle(self.task, self.folder / "sound")

    @cached_property
    def other(self) -> Bundle:
        """A bundle of another expert of the same task, of another seed."""
        student = experts.train_network(experts.STUDENT, self.task, seed=12, teacher=self.teacher)
        bundle = experts.export_expert(self.task, self.teacher, student, self.folder / "other")
        return calibrate(bundle, self.task.images.train, experts.CALIBRATION)

    def copy(self, number: int) -> Bundle:
        """Return a copy of the sound bundle for a case to change."""
        path = self.folder / f"case-{number}"
        shutil.copytree(self.bundle.path, path)
        return open_bundle(path, verify=False)


def faults(class_count: int, *, in_colour: bool) -> Iterator[Case]:
    """Yield every fault for a task of so many classes; those of colours only where images have any."""
    return (case for case in _faults(class_count) if in_colour or not _COLOUR_NAMES & {*case.causes.split()})


def _faults(class_count: int) -> Iterator[Case]:
    for precision in ("fp32", "int8"):
        groups = {**plants.INPUT_FAULTS, **plants.output_faults(class_count)}
        for what, (plant, causes) in groups.items():
            yield _in_model(what, plant, precision, causes)
    for what, (plant, causes) in plants.FLOAT_WEIGHT_FAULTS.items():
        yield _in_model(what, plant, "fp32", causes)
    for what, (plant, causes) in plants.INT8_FAULTS.items():
        yield _in_model(what, plant, "int8", causes)
    yield from _BAD_QUANTISATION
    yield from _OTHER_FILES
    yield from _REFERENCES
    yield from _OUTPUTS


def _in_model(what: str, plant: Plant, precision: str, causes: str) -> Case:
    def make(_: Sound, bundle: Bundle) -> Bundle:
        return planted(bundle, plant, precision)

    return Case(what=what, make=make, precision=precision, causes=causes)


# --- quantisation


def _darkened(sound: Sound, bundle: Bundle) -> Bundle:
    """Calibrate on the training images at a quarter of their brightness."""
    train = sound.task.images.train
    assert isinstance(train, ArrayImages)
    return calibrate(bundle, replace(train, images=train.images // 4, _digests={}), experts.CALIBRATION)


# Every activation in steps sixteen times too wide.
_COARSE = plants.in_tensors(lambda values: values * 16, "_output_0_scale")


def _with_ranges(factor: float, make: Plant) -> Make:
    def change(_: Sound, bundle: Bundle) -> Bundle:
        path = bundle.file("ranges")
        record = json.loads(path.read_text(encoding="utf-8"))
        for group in ("ranges", "symmetric_ranges"):
            record[group] = {name: [factor * low, factor * high] for name, (low, high) in record[group].items()}
        path.write_text(json.dumps(record), encoding="utf-8")
        return planted(bundle.with_file("ranges", path), make, "int8")

    return change


_BAD_QUANTISATION = (
    Case(what="calibrated on dark images", make=_darkened, precision="int8", causes="calibrated_on_other_images"),
    Case(
        what="ranges sixteen times too wide",
        make=_with_ranges(16, _COARSE),
        precision="int8",
        causes="quantisation_loss",
    ),
)

# --- files


def _take(role: str, precision: str) -> Make:
    return lambda sound, bundle: bundle.with_file(model_role(precision), _brought(sound.other.file(role), bundle))


def _brought(source: Path, bundle: Bundle) -> Path:
    return Path(shutil.copyfile(source, bundle.path / f"foreign-{source.name}"))


def _own_as(role: str, precision: str) -> Make:
    return lambda _, bundle: bundle.with_file(model_role(precision), _brought(bundle.file(role), bundle))


def _names_reversed(_: Sound, bundle: Bundle) -> Bundle:
    names = [bundle.class_names[1], bundle.class_names[0], *bundle.class_names[2:]]
    return bundle.with_fields(subtask={**bundle.manifest["subtask"], "class_names": names})


_OTHER_FILES = (
    Case(what="float file of another expert", make=_take("model.fp32", "fp32"), causes="not_this_model"),
    Case(
        what="INT8 file of another expert", make=_take("model.int8", "int8"), precision="int8", causes="not_this_model"
    ),
    Case(
        what="float file registered as int8",
        make=_own_as("model.fp32", "int8"),
        precision="int8",
        causes="precision_of_the_file not_this_model",
    ),
    Case(what="the teacher's file registered as fp32", make=_own_as("teacher.fp32", "fp32"), causes="not_this_model"),
    Case(
        what="names of two classes interchanged",
        make=_names_reversed,
        causes="class_names reference_names swapped_labels",
    ),
)

# --- reference


def _with_reference(change: Callable[[Reference], Reference]) -> Make:
    def make(_: Sound, bundle: Bundle) -> Bundle:
        path = bundle.file("reference")
        write_reference(path, change(read_reference(path)))
        return bundle.with_file("reference", path)

    return make


def _order(count: int) -> NDArray[np.int64]:
    order = np.arange(count)
    order[[1, 4]] = 4, 1
    return order


def _other_labels(share: float) -> Callable[[Reference], Reference]:
    def change(reference: Reference) -> Reference:
        random = np.random.default_rng(7)
        drawn = random.integers(0, reference.logits.shape[1], len(reference.labels))
        return replace(
            reference, labels=np.where(random.random(len(drawn)) < share, drawn, reference.labels).astype(np.int64)
        )

    return change


def _with_images(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Make:
    def alter(reference: Reference) -> Reference:
        assert reference.images is not None
        return replace(reference, images=np.ascontiguousarray(change(reference.images)))

    return _with_reference(alter)


def _of_another_teacher(reference: Reference) -> Reference:
    """Mix the answers: those of a teacher that was shown other images."""
    return replace(reference, logits=np.random.default_rng(8).permutation(reference.logits))


def _gamma(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.rint(255 * (images / 255.0) ** 2.2).astype(np.uint8)


_REFERENCES = (
    Case(
        what="labels of two classes interchanged",
        make=_with_reference(lambda each: replace(each, labels=_order(each.logits.shape[1])[each.labels])),
        causes="swapped_labels",
    ),
    Case(
        what="labels of all classes one further",
        make=_with_reference(lambda each: replace(each, labels=(each.labels + 1) % each.logits.shape[1])),
        causes="swapped_labels reference_at_chance",
    ),
    Case(
        what="the teacher's answers in another order",
        make=_with_reference(
            lambda each: replace(each, logits=np.ascontiguousarray(each.logits[:, _order(each.logits.shape[1])]))
        ),
        causes="permuted_reference teacher_reference",
    ),
    Case(
        what="the teacher's answers one class further",
        make=_with_reference(lambda each: replace(each, logits=np.roll(each.logits, 1, axis=1))),
        causes="permuted_reference teacher_reference reference_at_chance",
    ),
    Case(
        what="answers of another teacher",
        make=_with_reference(_of_another_teacher),
        causes="reference_at_chance teacher_reference",
    ),
    Case(
        what="random labels on half of the images",
        make=_with_reference(_other_labels(0.5)),
        causes="random_labels labels",
    ),
    Case(what="images recorded with gamma 2.2", make=_with_images(_gamma), causes="other_gamma teacher_reference"),
    Case(
        what="images recorded mirrored",
        make=_with_images(lambda images: images[:, :, ::-1]),
        causes="moved_pixels teacher_reference",
    ),
    Case(
        what="images recorded shifted by 4",
        make=_with_images(lambda images: np.roll(images, 4, axis=2)),
        causes="moved_pixels teacher_reference",
    ),
    Case(
        what="images recorded blue before red",
        make=_with_images(lambda images: images[..., ::-1]),
        causes="swapped_channels teacher_reference",
    ),
)

# --- recorded outputs


def _with_outputs(change: Callable[[Sound, NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]) -> Make:
    def make(sound: Sound, bundle: Bundle) -> Bundle:
        path = bundle.file("golden")
        inputs, outputs = read_golden(path)
        write_golden(path, inputs, np.ascontiguousarray(change(sound, inputs, outputs)).astype(np.float32))
        return bundle.with_file("golden", path)

    return make


_OUTPUTS = (
    Case(
        what="recorded outputs of an earlier training",
        make=_with_outputs(lambda sound, _, __: read_golden(sound.other.file("golden"))[1]),
        causes="stale_outputs",
    ),
    Case(
        what="recorded outputs in another order",
        make=_with_outputs(lambda _, __, outputs: outputs[:, ::-1]),
        causes="stale_outputs",
    ),
    Case(
        what="recorded outputs of other images",
        make=_with_outputs(lambda _, __, outputs: np.roll(outputs, 1, axis=0)),
        causes="stale_outputs",
    ),
)

# --- healthy


def _same(_: Sound, bundle: Bundle) -> Bundle:
    return bundle


def _recalibrated(**settings: object) -> Make:
    config = replace(experts.CALIBRATION, **settings)  # type: ignore[arg-type]
    return lambda sound, bundle: calibrate(bundle, sound.task.images.train, config)


def _retrained(seed: int, opset: int = 17) -> Make:
    def make(sound: Sound, bundle: Bundle) -> Bundle:
        student = experts.train_network(experts.STUDENT, sound.task, seed=seed, teacher=sound.teacher)
        return experts.export_expert(
            sound.task, sound.teacher, student, bundle.path.with_name(f"{bundle.path.name}-new"), opset
        )

    return make


def _fewer(reference: Reference) -> Reference:
    rows = np.arange(0, len(reference.labels), 2)
    assert reference.images is not None
    return replace(reference, images=reference.images[rows], image_index=reference.image_index[rows])


def _unlabelled(share: float) -> Callable[[Reference], Reference]:
    def change(reference: Reference) -> Reference:
        unknown = np.random.default_rng(2).random(len(reference.labels)) < share
        return replace(reference, labels=np.where(unknown, -1, reference.labels))

    return change


def _without(*roles: str) -> Make:
    def make(_: Sound, bundle: Bundle) -> Bundle:
        for role in roles:
            bundle = bundle.without_file(role) if bundle.has(role) else bundle
        return bundle

    return make


def _without_metadata(_: Sound, bundle: Bundle) -> Bundle:
    return planted(bundle, lambda model: model.ClearField("metadata_props"))


def _optimised_file(_: Sound, bundle: Bundle) -> Bundle:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(bundle.path / "optimised.onnx")
    onnxruntime.InferenceSession(str(bundle.file("model.fp32")), options, providers=["CPUExecutionProvider"])
    return bundle.with_file("model.fp32", bundle.path / "optimised.onnx")


def healthy() -> Iterator[Case]:
    """Yield variants that nothing is wrong with."""
    cases: dict[str, tuple[Make, str]] = {
        "the float file": (_same, "fp32"),
        "the FP16 file": (_same, "fp16"),
        "the INT8 file for ONNX Runtime": (_same, "int8"),
        "the INT8 file for TensorRT": (_same, "int8-tensorrt"),
        "the teacher's file": (_same, "teacher"),
        "calibrated by percentile": (_recalibrated(method="percentile"), "int8"),
        "calibrated by least squares": (_recalibrated(method="least-squares"), "int8"),
        "calibrated by moving average": (_recalibrated(method="moving-average"), "int8"),
        "calibrated with another seed": (_recalibrated(seed=3), "int8"),
        "calibrated with signed activations": (_recalibrated(profile="arm"), "int8"),
        "calibrated on 40 images": (_recalibrated(images=40), "int8"),
        "trained with seed 21": (_retrained(21), "fp32"),
        "trained with seed 22": (_retrained(22), "fp32"),
        "trained with seed 23, opset 15": (_retrained(23, opset=15), "fp32"),
        "optimised by ONNX Runtime": (_optimised_file, "fp32"),
        "half of the images recorded": (_with_reference(_fewer), "fp32"),
        "one image in five unlabelled": (_with_reference(_unlabelled(0.2)), "int8"),
        "without golden files": (_without("golden", GOLDEN_IMAGES), "fp32"),
        "without ranges": (_without("ranges", "ledger"), "int8"),
        "without the teacher's file": (_without("teacher.fp32"), "fp32"),
        "without metadata in the file": (_without_metadata, "fp32"),
        "a node that changes nothing": (
            lambda _, bundle: planted(bundle, plants.chain_behind(plants.LOGITS, ("Add", 0.0))),
            "fp32",
        ),
    }
    for what, (make, precision) in cases.items():
        yield Case(what=what, make=make, precision=precision)
    yield Case(what="two threads", make=_same, threads=2)
    # Two noisy classifiers agree less often than the limit that holds by default where nothing is labelled.
    make = _with_reference(_unlabelled(1.0))
    yield Case(what="nothing labelled", make=make, least_agreement=0.8)
