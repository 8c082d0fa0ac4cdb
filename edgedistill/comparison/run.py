"""Running a comparison: job by job, in several processes; a run continues where an earlier one stopped."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedistill.comparison.jobs import Job
from edgedistill.comparison.plan import ComparisonPlan, TaskFacts, read_facts
from edgedistill.comparison.pool import Crew, open_crew
from edgedistill.comparison.reasons.jobs import kept_settings
from edgedistill.comparison.results import CACHES, RESULTS, STUDENTS, Record, Results
from edgedistill.comparison.schedule import Track, all_floors, all_tracks, count_explanations, due_jobs, list_due_work
from edgedistill.distillation.events import ignore
from edgedistill.explanation.config import ExplainConfig
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.locks import hold_folder
from edgedistill_deploy.files.writing import refuse_links_out


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonProgress:
    """How far a comparison is: images passed through students, and trainings, of those that were due when it began.

    `explained` and `planned_explanations` count what is explained, in the folder in all.

    `job` is the job that has just ended, and `record` its result; both are None in all other reports.
    """

    work: int
    planned_work: int
    runs: int
    planned_runs: int
    explained: int = 0
    planned_explanations: int = 0
    job: Job | None = None
    record: Record | None = None


Watcher = Callable[[ComparisonProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A comparison whose jobs are done, or were tried.

    `asked` is how its students are explained, or were by an earlier run in the folder; None where they never were.
    """

    plan: ComparisonPlan
    facts: dict[str, TaskFacts]
    tracks: tuple[Track, ...]
    results: Results
    asked: ExplainConfig | None = None


def open_comparison(plan: ComparisonPlan, folder: Path) -> Comparison:
    """Read the data and the results that the folder already holds; nothing is run.

    Raises:
        UsageError: sizes do not fit the data.
        DataError: the data or the folder's results cannot be read.
    """
    return _with_results(plan, read_facts(plan), folder)


def planned_runs(comparison: Comparison) -> tuple[int, int]:
    """Return the number of trainings that the plan needs, and the number of those that are done."""
    total = sum(track.run_count for track in comparison.tracks)
    return total, total - len(list_due_work(comparison.tracks, comparison.results))


def planned_explanations(comparison: Comparison) -> tuple[int, int]:
    """Return how many explanations the plan needs, and how many of them are done."""
    return count_explanations(comparison.tracks, comparison.results)


def _with_results(plan: ComparisonPlan, facts: dict[str, TaskFacts], folder: Path) -> Comparison:
    results = Results(folder)
    return Comparison(
        plan=plan,
        facts=facts,
        tracks=tuple(all_tracks(plan, facts)),
        results=results,
        asked=plan.explain or kept_settings(results, plan, facts),
    )


def run_comparison(
    plan: ComparisonPlan, folder: Path, *, jobs: int = 1, threads: int = 1, progress: Watcher = ignore
) -> Comparison:
    """Do every job of a plan that the folder's `results.jsonl` does not hold yet, from this or another plan.

    Every method gets the same data, initial weights and epochs, and every tuned method tries the same weights. A job
    that fails is recorded with its error, and the other jobs go on; the next run tries it again.

    Args:
        folder: for the results and the trained students.
        jobs: processes that work at the same time; with 1 this process works alone.
        threads: threads of torch in each of them.
        progress: called when a job is done, and during long jobs.

    Raises:
        UsageError, DataError: as `open_comparison`, before anything is run.
        EdgeDistillError: a teacher or a student is not available, processes cannot start, or another comparison works
            in the folder.
    """
    facts = read_facts(plan)
    with _alone_in(folder):
        comparison = _with_results(plan, facts, folder)
        if due_jobs(comparison.tracks, comparison.results):
            with open_crew(folder, jobs=jobs, threads=threads) as crew:
                _work_through(comparison, crew, _Reporter(comparison, progress))
    return comparison


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second run from writing to the same results."""
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links_out(folder, (RESULTS, STUDENTS, CACHES))
    with hold_folder(folder, "edgedistill compare"):
        # A run that was killed leaves its caches.
        shutil.rmtree(folder / CACHES, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(folder / CACHES, ignore_errors=True)


def _work_through(comparison: Comparison, crew: Crew, report: "_Reporter") -> None:
    known: dict[str, Job] = {}
    while waiting := due_jobs(comparison.tracks, comparison.results):
        running = 0
        known.update({job.key: job for job in waiting})
        while waiting or running:
            while waiting and crew.free():
                crew.give(waiting.pop(0))
                running += 1
            for record in crew.results(lambda key, share: report.share(known[key], share)):
                running -= 1
                _refuse_task(record)
                comparison.results.add(record)
                report.done(known[record["key"]], record)
                tracks = [track for track in comparison.tracks if track.task.name == record["task"]]
                opened = [job for job in due_jobs(tracks, comparison.results) if job.key not in known]
                known.update({job.key: job for job in opened})
                # Evaluations are short, and they make the table of a stopped run more complete.
                waiting[:0] = [job for job in opened if job.kind != "train"]
                waiting.extend(job for job in opened if job.kind == "train")


def _refuse_task(record: Record) -> None:
    """Stop when a task's teacher or student is not available, or nothing can explain them."""
    if record["kind"] in ("teacher", "floors") and "error" in record:
        kind = UsageError if record.get("wrong_usage") else EdgeDistillError
        raise kind(record["error"])


def _explaining_work(comparison: Comparison) -> int:
    """Return the work of all explanations still to do, in images passed through a student."""
    total, done = planned_explanations(comparison)
    each = {job.work for job in all_floors(comparison.tracks)}
    return (total - done) * max(each, default=0)


class _Reporter:
    """Adds up the work that is done, in images passed through students."""

    def __init__(self, comparison: Comparison, progress: Watcher) -> None:
        self._progress = progress
        planned = list_due_work(comparison.tracks, comparison.results)
        self._planned = sum(planned)
        self._planned_runs = len(planned)
        self._comparison = comparison
        self._explanations, self._explained = planned_explanations(comparison)
        self._planned += _explaining_work(comparison)
        self._runs = 0
        self._work = 0
        self._shares: dict[str, float] = {}

    def share(self, job: Job, share: float) -> None:
        """Note which share of an unfinished job is done."""
        self._shares[job.key] = share * job.work
        self._report(None, None)

    def done(self, job: Job, record: Record) -> None:
        """Count a finished job."""
        self._shares.pop(job.key, None)
        self._runs += job.kind == "train"
        self._work += job.work
        # A student that turns out to be absent needs none.
        self._explanations, self._explained = planned_explanations(self._comparison)
        self._report(job, record)

    def _report(self, job: Job | None, record: Record | None) -> None:
        work = self._work + round(sum(self._shares.values()))
        # The work that is due depends on the chosen weights, so it can grow during the run.
        self._planned = max(self._planned, work)
        self._planned_runs = max(self._planned_runs, self._runs)
        self._progress(
            ComparisonProgress(
                work=work,
                planned_work=self._planned,
                runs=self._runs,
                planned_runs=self._planned_runs,
                explained=self._explained,
                planned_explanations=self._explanations,
                job=job,
                record=record,
            )
        )
