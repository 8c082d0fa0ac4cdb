"""The settings of the export, without torch."""

from dataclasses import dataclass

from edgedistill.checks import check_at_least
from edgedistill.export.onnx_targets import ANY, choose_opset
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.names import is_plain_text

MOST_MEGABYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """How a student becomes a bundle.

    Attributes:
        opset: ONNX operator set, from 13 to 25. None takes the target's, or 20 without a target: ONNX Runtime 1.17 and
            newer and TensorRT 10 and 11 read it.
        target: the reader of the file, one of `onnx_targets.TARGETS` (`docs/export.md`); empty for any reader.
        single_file_megabytes: a model with more weights than this keeps them in a second file beside it.
        reference_megabytes: budget for the evaluation images in the bundle. A sample is stored when they do not all
            fit, and none at 0.
        seed: decides that sample.
        reject: share of the subtask's validation images that the expert's output `in_domain` must accept, from 0.5 to
            below 1 (`docs/reject.md`); 0 gives the expert no such output.
        teacher_licence, data_licence: what the model card says about the licences of the teacher and of the images,
            such as "apache-2.0"; None for "not stated".
    """

    opset: int | None = None
    target: str = ANY
    single_file_megabytes: float = 2000.0
    reference_megabytes: float = 64.0
    seed: int = 0
    reject: float = 0.0
    teacher_licence: str | None = None
    data_licence: str | None = None

    def __post_init__(self) -> None:
        choose_opset(self.target, self.opset)
        check_at_least("single_file_megabytes", self.single_file_megabytes, 0)
        if self.single_file_megabytes > MOST_MEGABYTES:
            raise UsageError(
                f"single_file_megabytes can be {MOST_MEGABYTES} at most, because an ONNX file holds no more, and"
                f" {self.single_file_megabytes:g} was given."
            )
        check_at_least("reference_megabytes", self.reference_megabytes, 0)
        check_at_least("seed", self.seed, 0)
        if self.reject != 0 and not 0.5 <= self.reject < 1:
            raise UsageError(
                f"reject must be 0 (off) or a share from 0.5 to below 1, such as 0.95, and {self.reject} was given."
            )

        for name in ("teacher_licence", "data_licence"):
            text = getattr(self, name)
            if text is not None and not (is_plain_text(text) and text.strip()):
                raise UsageError(
                    f"{name} must be a line of text such as apache-2.0, and {text!r} was given; leave it out where "
                    "nobody knows it."
                )

    @property
    def written_opset(self) -> int:
        """The ONNX operator set that is written."""
        return choose_opset(self.target, self.opset)
