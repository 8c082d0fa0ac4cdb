"""The parts of a parity record about single classes: their figures, and what is wrong with them."""

from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy.records.schema import Share, Shares
from edgedistill_deploy.statistics.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAnswers:
    """How often teacher and model answer with a class, on the images without a label.

    It stands for the accuracies of a class of which no image has a label. `lost_count` images are answered so by the
    teacher alone, `gained_count` by the model alone. The p-values are as in `ClassParity`: of McNemar's test that the
    model answers with the class as often as the teacher does.
    """

    teacher_count: int
    candidate_count: int
    lost_count: int
    gained_count: int
    mcnemar_p: Share
    adjusted_p: Share
    significantly_rarer: bool

    @property
    def kept(self) -> Share | None:
        """The part of the images that the teacher answers with the class which the model answers so too."""
        return 1 - self.lost_count / self.teacher_count if self.teacher_count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassParity:
    """Accuracies (recalls) on the images of one class; None if it has no labelled image.

    `interval` is that of the drop, at a confidence that holds for all classes at once (Bonferroni). `mcnemar_p` is
    exact and two-sided. `adjusted_p` is the same after Holm's correction for the number of classes. A class is
    `significantly_worse` if it lost more images than it gained and `adjusted_p` lies below 1 - confidence. The model
    answers `answer_count` of all images with this class. Records of earlier versions lack it and `unlabelled`.
    """

    name: str
    support: int
    teacher: Share | None
    candidate: Share | None
    drop: Share | None
    interval: Shares
    lost_count: int
    gained_count: int
    mcnemar_p: Share
    adjusted_p: Share
    significantly_worse: bool
    answer_count: int | None = None
    unlabelled: ClassAnswers | None = None

    @property
    def shown_count(self) -> int:
        """The images of the class in a table: those with its label, else those that the teacher answers with it."""
        return self.support if self.unlabelled is None else self.unlabelled.teacher_count

    @property
    def shown_share(self) -> Share | None:
        """The accuracy on these images in a table, else the part of them that the model answers as the teacher does."""
        return self.candidate if self.unlabelled is None else self.unlabelled.kept

    @property
    def shown_loss(self) -> Share | None:
        """The drop in a table, else the part of these images that the model answers otherwise than the teacher."""
        kept = None if self.unlabelled is None else self.unlabelled.kept
        return self.drop if kept is None else 1 - kept

    @property
    def is_lost(self) -> bool:
        """True if all that the teacher can do with this class is lost, significantly or not."""
        if self.unlabelled is not None:
            return self.unlabelled.candidate_count == 0 < self.unlabelled.teacher_count
        return self.candidate == 0 and self.lost_count > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStatistics:
    """The corrections of the class statistics for the number of classes."""

    tested_count: int
    correction: str
    interval_correction: str
    interval_confidence: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """The figures of each class, and their corrections for the number of classes."""

    per_class: tuple[ClassParity, ...]
    class_statistics: ClassStatistics

    @property
    def worse_count(self) -> int:
        """The number of classes that lost significantly."""
        return sum(row.significantly_worse for row in self.per_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFinding:
    """A class that is dead, or that drops by more than `max_class_drop`.

    The verdict is "inconclusive" if too few images tell, and "pass" if the class is an allowed one. `detail` is a
    sentence. `images_to_decide` counts images of this class.
    """

    name: str
    fault: Literal["dead", "beyond_limit"]
    verdict: Verdict
    detail: str
    images_to_decide: int | None = None
