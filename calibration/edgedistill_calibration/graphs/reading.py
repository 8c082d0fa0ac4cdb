"""The values of a graph's tensors on images, read in chunks that fit into memory."""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedistill_deploy.runtimes.int8_kernels import leave_unfused
from edgedistill_deploy.runtimes.session import usable_cores

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

GROUP = 16  # images whose extremes make one step of the moving average
CHUNK_BYTES = 64 << 20  # of activations at a time
_BLOCK = 1 << 16  # numbers that stay in a processor's own cache while several passes are made over them


class ActivationReader:
    """Runs a float graph and gives its inner values, about `CHUNK_BYTES` of them at a time."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        leave_unfused(options)  # inner values are those of the graph as it is written
        options.intra_op_num_threads = usable_cores()
        # Between two runs the values are read, and threads that wait busily would take the processor from that.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.names = tuple(names)
        self._chunk = 1
        self._session = onnxruntime.InferenceSession(
            _with_outputs(model, names).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def read(self, images: Images) -> Iterator[list[Floats]]:
        """Yield every value for some of the images at a time; the next ones are computed meanwhile."""
        with ThreadPoolExecutor(1) as thread:
            coming: Future[list[Floats]] | None = None
            start = 0
            while start < len(images):
                part = images[start : start + self._chunk]
                values = self._run(part) if coming is None else coming.result()
                start += len(part)
                if coming is None:  # from here on, all but the last part have one size
                    image_bytes = sum(value.nbytes for value in values) // len(part)
                    self._chunk = max(1, min(GROUP, CHUNK_BYTES // max(1, image_bytes)))
                coming = thread.submit(self._run, images[start : start + self._chunk]) if start < len(images) else None
                yield values

    def _run(self, images: Images) -> list[Floats]:
        values: list[Floats] = self._session.run(list(self.names), {self._input: images})
        return values


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    opened = copy.deepcopy(model)
    present = {output.name for output in model.graph.output}
    known = {value.name: value for value in model.graph.value_info}
    opened.graph.output.extend(known[name] for name in names if name not in present)
    return opened


def blocks(value: NDArray[T]) -> Iterator[NDArray[T]]:
    """Yield the numbers of a value in pieces (n,), small enough that a second look at one does not reach memory."""
    flat = value.reshape(-1)
    return (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
