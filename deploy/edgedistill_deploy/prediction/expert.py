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

Pixels = NDArray[np.uint8]


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
        size = self._batch_size() if batch_size is None else batch_size
        if size < 1:
            raise UsageError(f"batch_size is {size}; it must be 1 or more.")
        waiting = iter(pictures)
        while batch := list(itertools.islice(waiting, size)):
            yield from self._answer_batch(batch)

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

    def _run(self, images: Pixels) -> list[tuple[NDArray[np.float32], bool | None, float]]:
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

    def _judge(
        self, name: str, prepare_ms: float, logits: NDArray[np.float32], in_domain: bool | None, inference_ms: float
    ) -> Prediction | NotAnswered:
        if np.isfinite(logits).all():
            return prediction_of(name, logits, in_domain, self.class_names, prepare_ms, inference_ms)
        told = DataError(
            f"{self.session.model_path.name} gave numbers for {name} that are not finite ({self.model.precision} on "
            f"{self.model.runtime}); try precision fp32 to see whether the model or its precision is at fault."
        )
        return NotAnswered(name=name, error=told, reason="the model's numbers are not finite")


def _not_answered(picture: Picture, error: DataError) -> NotAnswered:
    if isinstance(error, UnusableImageError):
        return NotAnswered(name=picture.name, error=error, reason=error.reason)
    told = DataError(f"{picture.subject} cannot be prepared: {error}")
    return NotAnswered(name=picture.name, error=told, reason="too elongated")
