"""The answer of an expert to one picture."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.evaluation.figures import log_softmax
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.wording import percent

KIND, SET_KIND, SCHEMA = "prediction", "prediction-set", 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What an expert says about a picture.

    Attributes:
        name: of the picture, as `printable` text.
        class_name: the class with the largest logit.
        probability: its softmax output, from 0 to 1.
        in_domain: whether the picture is of one of the expert's classes at all; None where the expert does not say.
        logits: float32 (C,), read-only.
        class_names: the classes in the order of the logits.
        prepare_ms: the time to decode and resize the picture.
        inference_ms: the time of the model for its batch, divided by the pictures in it.
    """

    name: str
    class_name: str
    probability: float
    in_domain: bool | None
    logits: NDArray[np.float32] = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    prepare_ms: float
    inference_ms: float

    def __str__(self) -> str:
        return f"{self.name}: {self.class_name}, {percent(self.probability)}"

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax outputs (C,); they add up to 1."""
        return np.asarray(np.exp(log_softmax(self.logits[None])[0]))

    @property
    def milliseconds(self) -> float:
        """The time from the picture's bytes to the answer."""
        return self.prepare_ms + self.inference_ms

    def top(self, count: int) -> tuple[tuple[str, float], ...]:
        """Return the most probable classes, each with its probability, the first one first; at most all classes."""
        probabilities = self.probabilities
        order = np.argsort(-self.logits, kind="stable")[:count]
        return tuple((self.class_names[place], float(probabilities[place])) for place in order)

    def is_sure(self, threshold: float) -> bool:
        """Return whether the probability reaches the threshold."""
        return self.probability >= threshold

    def to_json(self, top: int = 1, threshold: float = 0.0) -> dict[str, Any]:
        """Return the values of a line of JSON; the class is None where the expert is not sure."""
        sure = self.is_sure(threshold)
        return {
            "image": self.name,
            "class": self.class_name if sure else None,
            "probability": self.probability,
            "sure": sure,
            "in_domain": self.in_domain,
            "milliseconds": self.milliseconds,
            "prepare_ms": self.prepare_ms,
            "inference_ms": self.inference_ms,
            "top": [{"class": name, "probability": share} for name, share in self.top(top)],
            "error": None,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NotAnswered:
    """A picture that got no answer; `reason` is the same for all pictures with this fault."""

    name: str
    error: DataError
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return a line with the same keys as that of a prediction."""
        keys = ("class", "probability", "sure", "in_domain", "milliseconds", "prepare_ms", "inference_ms")
        return {"image": self.name, **dict.fromkeys(keys), "top": [], "error": printable(str(self.error))}


def prediction_of(
    name: str,
    logits: NDArray[np.float32],
    in_domain: bool | None,
    class_names: tuple[str, ...],
    prepare_ms: float,
    inference_ms: float,
) -> Prediction:
    """Return the prediction from finite logits (C,)."""
    own = np.array(logits, dtype=np.float32)
    own.setflags(write=False)
    best = int(np.argmax(own))
    return Prediction(
        name=name,
        class_name=class_names[best],
        probability=float(np.exp(log_softmax(own[None])[0, best])),
        in_domain=in_domain,
        logits=own,
        class_names=class_names,
        prepare_ms=prepare_ms,
        inference_ms=inference_ms,
    )
