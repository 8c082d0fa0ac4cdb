"""Comparing SubDistill with other ways to train the same student, on the same images and with the same budget."""

from edgedistill.comparison.methods import METHODS, REFERENCE, named_methods
from edgedistill.comparison.plan import ComparisonPlan, Task
from edgedistill.comparison.run import Comparison, ComparisonProgress, open_comparison, run_comparison

__all__ = [
    "METHODS",
    "REFERENCE",
    "Comparison",
    "ComparisonPlan",
    "ComparisonProgress",
    "Task",
    "named_methods",
    "open_comparison",
    "run_comparison",
]
