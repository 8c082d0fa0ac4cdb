"""Which jobs can be done now: weights are tried first, then the chosen one is trained with every seed and evaluated."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgedistill.comparison.methods import is_tuned, nearest_to_one
from edgedistill.comparison.plan import (
    ComparisonPlan,
    Job,
    Task,
    TaskFacts,
    evaluation_job,
    teacher_job,
    training_job,
)
from edgedistill.comparison.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One method on one task: all its sizes, weights and seeds."""

    plan: ComparisonPlan
    task: Task
    facts: TaskFacts
    method: str
    _made: dict[tuple[int | None, int, float | None], Job] = field(default_factory=dict, repr=False)

    @property
    def tuned(self) -> bool:
        """Whether the method has a weight to choose."""
        return is_tuned(self.plan.methods[self.method])

    def due(self, results: Results) -> list[Job]:
        """Return the jobs that can be done now and were not."""
        return [job for job in self._open(results) if results.get(job.key) is None]

    def trials(self, size: int | None) -> dict[float, list[Job]]:
        """Return the runs that the weight for this size is chosen from: {weight: a run for each tuning seed}."""
        tuned_at = self._tuned_at(size)
        seeds = self.plan.seeds[: self.plan.tune_seeds]
        return {weight: [self._job(tuned_at, seed, weight) for seed in seeds] for weight in self.plan.lambdas}

    def choice(self, size: int | None, results: Results) -> float | None:
        """Return the weight with the best mean validation accuracy; of equal ones the nearest to 1, then the smaller.

        None while runs are missing, or when every weight failed. A weight that failed with some seed is not chosen.
        """
        scores: dict[float, float] = {}
        for weight, jobs in self.trials(size).items():
            records = [results.get(job.key) for job in jobs]
            if None in records:
                return None
            accuracies = [each["validation_accuracy"] for each in records if each and "error" not in each]
            if len(accuracies) == len(jobs):
                scores[weight] = statistics.fmean(accuracies)
        return min(scores, key=lambda weight: (-scores[weight], *nearest_to_one(weight)), default=None)

    def final(self, size: int | None, results: Results) -> list[Job]:
        """Return the runs that count at this size, a run a seed; none while the weight is not chosen."""
        weight = self.choice(size, results) if self.tuned else None
        if self.tuned and weight is None:
            return []
        return [self._job(size, seed, weight) for seed in self.plan.seeds]

    def planned(self, results: Results) -> dict[str, int]:
        """Return the work still to do, {a name for the run: images}; which weight will be chosen does not matter to it."""
        work: dict[str, int] = {}
        for size in self.plan.ordered_sizes():
            final = self.final(size, results)
            runs = list(final)
            if self.tuned:
                runs.extend(job for jobs in self.trials(size).values() for job in jobs)
            work.update({job.key: job.work for job in runs if results.get(job.key) is None})
            if self.tuned and not final:
                tried = self.plan.tune_seeds if size == self._tuned_at(size) else 0
                later = self._job(size, self.plan.seeds[0], self.plan.lambdas[0])
                work[f"{later.key} again"] = later.work * (len(self.plan.seeds) - tried)
        return work

    def _tuned_at(self, size: int | None) -> int | None:
        return self.plan.ordered_sizes()[0] if self.plan.tune_sizes == "first" else size

    def _job(self, size: int | None, seed: int, weight: float | None) -> Job:
        asked = (size, seed, weight)
        if asked not in self._made:
            self._made[asked] = training_job(
                self.plan, self.task, self.facts, self.method, size, seed, weight
            )
        return self._made[asked]

    def _open(self, results: Results) -> Iterator[Job]:
        for size in self.plan.ordered_sizes():
            for job in self.final(size, results):
                yield job
                if results.finished(job.key):
                    yield evaluation_job(job)
            if self.tuned:
                for jobs in self.trials(size).values():
                    yield from jobs


def all_tracks(plan: ComparisonPlan, facts: dict[str, TaskFacts]) -> list[Track]:
    """Return every method on every task."""
    return [
        Track(plan=plan, task=task, facts=facts[task.name], method=method)
        for task in plan.tasks
        for method in plan.methods
    ]


def due_jobs(tracks: Sequence[Track], results: Results) -> list[Job]:
    """Return every job that can be done now, each once, evaluations first."""
    teachers = {track.task.name: teacher_job(track.task, track.facts) for track in tracks}
    jobs = [job for job in teachers.values() if results.get(job.key) is None]
    jobs.extend(job for track in tracks for job in track.due(results))
    once = {job.key: job for job in jobs}
    return sorted(once.values(), key=lambda job: job.kind == "train")


def planned_work(tracks: Sequence[Track], results: Results) -> int:
    """Return the number of images that are still to pass through students."""
    work: dict[str, int] = {}
    for track in tracks:
        work.update(track.planned(results))
    return sum(work.values())
