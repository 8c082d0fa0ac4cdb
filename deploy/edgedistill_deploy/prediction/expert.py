"""An expert in a program of one's own: open a bundle, give it pictures, get classes."""

import itertools
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.clock import MACHINE_CLOCK
from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError, UsageError
from edgedistill_deploy.images.decode import UnusableImageError, load_decoders
from edgedistill_deploy.prediction.answers import NotAnswered, Prediction, prediction_of
from edgedistill_deploy.prediction.occlusion import (
    ACROSS,
    Explanation,
    Fill,
    Patches,
    Pixels,
    covered_copies,
    falls_of,
    filled,
    plan_patches,
    require_fill,
    spread,
    strongest_region,
)
from edgedistill_deploy.prediction.pictures import Given, Picture, pictures_of
from edgedistill_deploy.prediction.usual_model import UsualModel, choose_model
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.runtimes.logits import raw_answers, require_interface
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.runtimes.session import LIMIT_S

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_IN_A_BATCH = 32
_BATCH_BYTES = 32 << 20
_NS_PER_MS = 1e6

_Row = tuple[NDArray[np.float32], bool | None, float]


class Expert:
    """A bundle's model with its classes and its preparation of pictures; a context manager.

    Threads may share one: pictures are decoded side by side, and the model runs for one caller at a time, on all its
    threads.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        precision: str | None = None,
        runtime: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
        limit_s: float = LIMIT_S,
        progress: Progress = silent,
    ) -> None:
        """Load the model that is recommended for this device, or fp32 where nothing was measured.

        Args:
            bundle: a bundle or its folder.
            precision, runtime, provider: another model or place; see `open_session`.
            threads: of one run of the model; by default all cores.
            limit_s: how long one run may take.
            progress: called while TensorRT builds an engine.

        Raises:
            BundleError: the folder is no bundle, has no such model, or the model's file was changed or does not fit.
            UsageError: unknown runtime, precision or provider.
            MissingDependencyError: the runtime is not installed.
            EdgeDistillError: the runtime cannot load the model.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle), verify=False)
        self.model: UsualModel = choose_model(self.bundle, precision=precision, runtime=runtime, provider=provider)
        self.class_names, self.preprocess = self.bundle.class_names, self.bundle.preprocess
        load_decoders()
        self._running = threading.Lock()
        self._closed = False
        self.session = open_session(
            self.bundle,
            runtime=self.model.runtime,
            precision=self.model.precision,
            provider=self.model.provider,
            threads=threads,
            progress=progress,
            limit_s=limit_s,
        )
        try:
            require_interface(self.session)
        except EdgeDistillError:
            self.close()
            raise

    @overload
    def predict(self, images: Given) -> Prediction: ...
    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, *, rgb: Pixels) -> Prediction: ...
    @overload
    def predict(self, *, rgb: list[Pixels] | tuple[Pixels, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, *, bgr: Pixels) -> Prediction: ...
    @overload
    def predict(self, *, bgr: list[Pixels] | tuple[Pixels, ...]) -> list[Prediction]: ...

    def predict(self, images: Any = None, *, rgb: Any = None, bgr: Any = None) -> Prediction | list[Prediction]:
        """Return what the expert says about a picture, or a list for a list of pictures.

        Args:
            images: a path, the bytes of an image file, a PIL image, or a list of these. EXIF orientation is applied.
            rgb: an array, uint8 (H, W, 3) with red first or (H, W) for grey, or a list of such arrays.
            bgr: the same with blue first, as OpenCV reads.

        Raises:
            UsageError: something else was given. An array is not taken without the name of its channels.
            DataError: a picture cannot be read; the message names it.
            EdgeDistillError: the model fails, or the expert was closed.
        """
        pictures, several = pictures_of(images, (("rgb", rgb), ("bgr", bgr)))
        found = []
        for answer in self.answer(pictures):
            if isinstance(answer, NotAnswered):
                raise answer.error
            found.append(answer)
        return found if several else found[0]

    def answer(self, pictures: Iterable[Picture], batch_size: int | None = None) -> Iterator[Prediction | NotAnswered]:
        """Yield an answer for each picture in order, a batch at a time; one that cannot be read does not stop the rest.

        `batch_size` is how many pictures the model gets at once; by default up to `MOST_IN_A_BATCH`, fewer where they
        are large. Raises UsageError for less than 1.
        """
        size = self._require_batch_size(batch_size)
        waiting = iter(pictures)
        while batch := list(itertools.islice(waiting, size)):
            yield from self._answer_batch(batch)

    def explain(
        self,
        image: Given | None = None,
        *,
        rgb: Pixels | None = None,
        bgr: Pixels | None = None,
        fill: Fill = "blur",
        across: int = ACROSS,
        batch_size: int | None = None,
    ) -> Explanation:
        """Return which parts of a picture speak for the answer.

        The model sees the picture again for each covered part, about 170 times; see `prediction.occlusion`.

        Args:
            image, rgb, bgr: one picture, as for `predict`.
            fill: what covers a part: "blur", the same place of the blurred picture, or "mean", its mean colour.
            across: how many parts fill a side; twice as many take four times as long.
            batch_size: how many copies the model gets at once; by default as `answer` chooses it.

        Raises:
            UsageError: something else was given.
            DataError: the picture cannot be read, or the model's numbers are not finite.
            EdgeDistillError: the model fails, or the expert was closed.
        """
        pictures, several = pictures_of(image, (("rgb", rgb), ("bgr", bgr)), call="explain")
        if several:
            raise UsageError("explain takes one picture, and a list was given; call it for each.")
        return self.explain_picture(pictures[0], fill=fill, across=across, batch_size=batch_size)

    def explain_picture(
        self,
        picture: Picture,
        *,
        fill: Fill = "blur",
        across: int = ACROSS,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> Explanation:
        """Do what `explain` does; `progress` counts how often the model has seen the picture."""
        require_fill(fill)
        began = MACHINE_CLOCK.now_ns()
        try:
            image = picture.read()
            pixels = self.preprocess.apply(image)
        except DataError as error:
            raise _not_answered(picture, error).error from error
        prepare_ms = (MACHINE_CLOCK.now_ns() - began) / _NS_PER_MS
        patches = plan_patches(self.preprocess.size, across)
        rows = self._look(pixels, filled(pixels, fill, patches), patches, batch_size, progress)
        answer = self._judge(picture.name, prepare_ms, *rows[0])
        logits = np.stack([row for row, _, _ in rows])
        if isinstance(answer, NotAnswered) or not np.isfinite(logits).all():
            raise self._not_finite(picture.name)
        target, seen = int(np.argmax(answer.logits)), self.preprocess.seen_part(image)
        return Explanation(
            prediction=answer,
            map=spread(falls_of(logits, target), patches, self.preprocess.size),
            pixels=pixels,
            region=strongest_region(logits, target, patches, seen, self.preprocess.size),
            fill=fill,
            look_count=len(rows),
            milliseconds=(MACHINE_CLOCK.now_ns() - began) / _NS_PER_MS,
        )

    @property
    def looks_to_explain(self) -> int:
        """How often the model sees a picture until it is explained as `explain` does by default."""
        return len(plan_patches(self.preprocess.size)) + 1

    def close(self) -> None:
        """Free the model; the expert then answers no more."""
        with self._running:
            if not self._closed:
                self._closed = True
                self.session.__exit__(None, None, None)

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_batch_size(self, asked: int | None) -> int:
        """Return the size asked for, or the usual one. Raises UsageError for less than 1."""
        if asked is not None and asked < 1:
            raise UsageError(f"batch_size is {asked}; it must be 1 or more.")
        return self._batch_size() if asked is None else asked

    def _batch_size(self) -> int:
        height, width = self.preprocess.size
        return max(1, min(MOST_IN_A_BATCH, _BATCH_BYTES // (3 * height * width)))

    def _answer_batch(self, batch: list[Picture]) -> list[Prediction | NotAnswered]:
        tried = [self._prepare(picture) for picture in batch]
        ready = [each for each in tried if not isinstance(each, NotAnswered)]
        rows = iter(self._run(np.stack([pixels for pixels, _ in ready])) if ready else ())
        return [
            each if isinstance(each, NotAnswered) else self._judge(picture.name, each[1], *next(rows))
            for picture, each in zip(batch, tried, strict=True)
        ]

    def _prepare(self, picture: Picture) -> tuple[Pixels, float] | NotAnswered:
        """Return the model's input (H, W, 3) and the time in ms, or why there is none."""
        began = MACHINE_CLOCK.now_ns()
        try:
            pixels = self.preprocess.apply(picture.read())
        except DataError as error:
            return _not_answered(picture, error)
        return pixels, (MACHINE_CLOCK.now_ns() - began) / _NS_PER_MS

    def _run(self, images: Pixels) -> list[_Row]:
        """Return for each image, (n, H, W, 3), the logits (C,), whether it is in the domain, and its time in ms."""
        with self._running:
            if self._closed:
                raise EdgeDistillError("The expert is closed; open it again to ask it.")
            began = MACHINE_CLOCK.now_ns()
            logits, in_domain = raw_answers(self.session, images)
            each_ms = (MACHINE_CLOCK.now_ns() - began) / _NS_PER_MS / len(images)
        expected = (len(images), len(self.class_names))
        if logits.shape != expected:
            raise BundleError(
                f"{self.session.model_path.name} answers {expected[0]} images with logits of shape {logits.shape} "
                f"where the bundle's {expected[1]} classes need {expected}; export it again."
            )
        decisions = [None] * len(images) if in_domain is None else in_domain.tolist()
        return [(row, decision, each_ms) for row, decision in zip(logits, decisions, strict=True)]

    def _look(
        self, pixels: Pixels, fill: Pixels, patches: Patches, batch_size: int | None, progress: Progress
    ) -> list[_Row]:
        """Return what the model says of the picture, and then of it with each patch covered."""
        fixed = self.session.inputs[0].shape[0]
        size = fixed or self._require_batch_size(batch_size)
        rows: list[_Row] = []
        for copies in covered_copies(pixels, fill, patches, size, whole=fixed is not None):
            rows += self._run(copies)
            progress(min(len(rows), len(patches) + 1), len(patches) + 1)
        return rows[: len(patches) + 1]

    def _judge(
        self, name: str, prepare_ms: float, logits: NDArray[np.float32], in_domain: bool | None, inference_ms: float
    ) -> Prediction | NotAnswered:
        if np.isfinite(logits).all():
            return prediction_of(name, logits, in_domain, self.class_names, prepare_ms, inference_ms)
        return NotAnswered(name=name, error=self._not_finite(name), reason="the model's numbers are not finite")

    def _not_finite(self, name: str) -> DataError:
        return DataError(
            f"{self.session.model_path.name} gave numbers for {name} that are not finite ({self.model.precision} on "
            f"{self.model.runtime}); try precision fp32 to see whether the model or its precision is at fault."
        )


def _not_answered(picture: Picture, error: DataError) -> NotAnswered:
    if isinstance(error, UnusableImageError):
        return NotAnswered(name=picture.name, error=error, reason=error.reason)
    told = DataError(f"{picture.subject} cannot be prepared: {error}")
    return NotAnswered(name=picture.name, error=told, reason="too elongated")
