"""Comparing SubDistill with other ways to train the same student, on the same images and with the same budget."""

from edgedistill.comparison.figure import write_figure
from edgedistill.comparison.methods import AS_IS, METHODS, REFERENCE, named_methods
from edgedistill.comparison.plan import LAMBDAS, ComparisonPlan, Task
from edgedistill.comparison.record import comparison_record
from edgedistill.comparison.run import (
    Comparison,
    ComparisonProgress,
    open_comparison,
    planned_explanations,
    planned_runs,
    run_comparison,
)
from edgedistill.comparison.statistics import Difference
from edgedistill.comparison.summary import FinalRun, Row, summarise, teacher_accuracy

__all__ = [
    "AS_IS",
    "LAMBDAS",
    "METHODS",
    "REFERENCE",
    "Comparison",
    "ComparisonPlan",
    "ComparisonProgress",
    "Difference",
    "FinalRun",
    "Row",
    "Task",
    "comparison_record",
    "named_methods",
    "open_comparison",
    "planned_explanations",
    "planned_runs",
    "run_comparison",
    "summarise",
    "teacher_accuracy",
    "write_figure",
]
