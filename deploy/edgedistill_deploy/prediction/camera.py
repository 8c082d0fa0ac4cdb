"""The frames of a camera or a video file, by OpenCV where it is installed."""

import contextlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import DataError, MissingDependencyError
from edgedistill_deploy.prediction.pictures import Picture, picture_of_array


@contextlib.contextmanager
def open_frames(source: str) -> Iterator[Iterator[Picture]]:
    """Yield the frames of the camera with this number, or of this video file, and release it afterwards.

    Raises MissingDependencyError without OpenCV, and DataError where there is no such camera or file.
    """
    try:
        cv2 = import_module("cv2")
    except ImportError as error:
        raise MissingDependencyError("OpenCV", "camera", "Reading a camera") from error
    number = int(source) if source.isascii() and source.isdigit() else None
    if number is None and not Path(source).is_file():
        raise DataError(f"There is no video {source}; give the number of a camera, such as 0, or a video file.")
    capture = cv2.VideoCapture(source if number is None else number)
    try:
        if not capture.isOpened():
            advice = "it is not there, or another program has it" if number is not None else "OpenCV cannot read it"
            raise DataError(f"{'Video' if number is None else 'Camera'} {source} cannot be opened: {advice}.")
        yield _frames(capture)
    finally:
        capture.release()


def _frames(capture: Any) -> Iterator[Picture]:
    place = 0
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield Picture(name=f"frame {place}", source=picture_of_array(frame, "bgr").source)
        place += 1
