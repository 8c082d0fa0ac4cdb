"""Which jobs can be done now: first those that try weights, then all seeds of the chosen one and their evaluation."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgedistill.comparison.jobs import Job, Variant, evaluation_job, teacher_job, training_job
from edgedistill.comparison.methods import is_tuned, is_untrained, nearest_to_one
from edgedistill.comparison.plan import ComparisonPlan, Task, TaskFacts
from edgedistill.comparison.reasons.jobs import explain_job, find_floors, floors_jobs
from edgedistill.comparison.results import Results
from edgedistill.explanation.config import ExplainConfig

FROM_NOTHING = "the student starts from nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One method on one task: all its sizes, weights and seeds."""

    plan: ComparisonPlan
    task: Task
    facts: TaskFacts
    method: str
    _made: dict[Variant, Job] = field(default_factory=dict, repr=False)

    @property
    def tuned(self) -> bool:
        """Whether the method has a weight to choose."""
        return is_tuned(self.plan.methods[self.method])

    def due(self, results: Results) -> list[Job]:
        """Return the jobs that can be done now and have no record."""
        tried = [job for job in self._training_jobs(results) if results.get(job.key) is None]
        return [*tried, *self._closing_jobs(results)]

    def trials(self, size: int | None) -> dict[float, list[Job]]:
        """Return the runs that decide the weight for this size: {weight: a run for each tuning seed}."""
        tuned_at = self._find_tuning_size(size)
        seeds = self.plan.seeds[: self.plan.tune_seeds]
        return {weight: [self._job(tuned_at, seed, weight) for seed in seeds] for weight in self.plan.lambdas}

    def tuning_jobs(self, size: int | None) -> list[Job]:
        """Return the runs that decide the weight for this size; none where the method has no weight to choose."""
        # All weights of a seed follow one another, because they share the teacher's answers.
        return [job for jobs in zip(*self.trials(size).values(), strict=True) for job in jobs] if self.tuned else []

    def choice(self, size: int | None, results: Results) -> float | None:
        """Return the weight with the best mean validation accuracy; of equal ones the nearest to 1, then the smaller.

        None while runs are missing. A weight that failed with some seed is not chosen; None when all weights failed.
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
        """Return the runs that count at this size, one for each seed; none until the weight is chosen.

        A method that trains nothing has none where the student starts from nothing.
        """
        weight = self.choice(size, results) if self.tuned else None
        if (self.tuned and weight is None) or (self.untrained and not self.facts.start):
            return []
        return [self._job(size, seed, weight) for seed in self.plan.seeds]

    def explanations(self, config: ExplainConfig | None, size: int | None, results: Results) -> list[Job]:
        """Return the jobs that explain the runs that count at this size.

        None without settings, and until the task's floors say by which method.
        """
        floors = find_floors(floors_jobs(config, self.plan, self.task, self.facts), results) if config else []
        if config is None or not floors:
            return []
        method = floors[0]["attribution"]
        return [explain_job(job, config, method, self.facts) for job in self.final(size, results)]

    def list_explanations(self, results: Results) -> tuple[int, int]:
        """Return how many explanations of this track's runs the plan needs, and how many of them are done."""
        if self.plan.explain is None or self.find_absence(results):
            return 0, 0
        sizes = self.plan.ordered_sizes()
        jobs = [job for size in sizes for job in self.explanations(self.plan.explain, size, results)]
        return len(sizes) * len(self.plan.seeds), sum(results.get(job.key) is not None for job in jobs)

    @property
    def untrained(self) -> bool:
        """Whether the method trains nothing."""
        return is_untrained(self.plan.methods[self.method])

    def find_absence(self, results: Results) -> str:
        """Say why there is no student as it starts to judge; empty where there is one, or where it is not known."""
        if not self.untrained:
            return ""
        begun = [results.find_finished(job.key) for job in self.final(self.plan.sizes[0], results)]
        return FROM_NOTHING if not begun else str((begun[0] or {}).get("absent", ""))

    @property
    def run_count(self) -> int:
        """How many trainings there are in all."""
        if self.untrained:
            return 0
        tuned_sizes = (1 if self.plan.tune_sizes == "first" else len(self.plan.sizes)) if self.tuned else 0
        trials = (len(self.plan.lambdas) - 1) * self.plan.tune_seeds
        return len(self.plan.sizes) * len(self.plan.seeds) + tuned_sizes * trials

    def list_due_work(self, results: Results) -> list[int]:
        """Return the work of every training still to do, in images; it does not depend on the weight to be chosen."""
        if self.untrained:
            return []
        work: dict[str, int] = {}
        for size in self.plan.ordered_sizes():
            final = self.final(size, results)
            runs = [*final, *self.tuning_jobs(size)]
            work.update({job.key: job.work for job in runs if results.get(job.key) is None})
            if self.tuned and not final:
                tried = self.plan.tune_seeds if size == self._find_tuning_size(size) else 0
                later = self._job(size, self.plan.seeds[0], self.plan.lambdas[0])
                work.update({f"{size}|{seed}": later.work for seed in self.plan.seeds[tried:]})
        return list(work.values())

    def _find_tuning_size(self, size: int | None) -> int | None:
        return self.plan.ordered_sizes()[0] if self.plan.tune_sizes == "first" else size

    def _job(self, size: int | None, seed: int, weight: float | None) -> Job:
        variant = Variant(size=size, seed=seed, weight=weight)
        if variant not in self._made:
            self._made[variant] = training_job(self.plan, self.task, self.facts, self.method, variant)
        return self._made[variant]

    def _training_jobs(self, results: Results) -> Iterator[Job]:
        for size in self.plan.ordered_sizes():
            yield from self.final(size, results)
            yield from self.tuning_jobs(size)

    def _closing_jobs(self, results: Results) -> Iterator[Job]:
        """Yield what trained runs still need: an evaluation and an explanation.

        Where the student's file is gone, it is trained a second time for them.
        """
        for size in self.plan.ordered_sizes():
            explanations = self.explanations(self.plan.explain, size, results)
            for job in self.final(size, results):
                done = results.find_finished(job.key)
                closing = [evaluation_job(job), *(each for each in explanations if each.trained == job.key)]
                due = [each for each in closing if results.get(each.key) is None]
                if due and done is not None and "absent" not in done:
                    yield from due if results.student_path(job.key).is_file() else [job]


def all_tracks(plan: ComparisonPlan, facts: dict[str, TaskFacts]) -> list[Track]:
    """Return every method on every task."""
    return [
        Track(plan=plan, task=task, facts=facts[task.name], method=method)
        for task in plan.tasks
        for method in plan.methods
    ]


def due_jobs(tracks: Sequence[Track], results: Results) -> list[Job]:
    """Return every job that can be done now, each once, and the trainings last."""
    teachers = {track.task.name: teacher_job(track.task, track.facts) for track in tracks}
    jobs = [job for job in teachers.values() if results.get(job.key) is None]
    jobs.extend(job for job in all_floors(tracks) if results.get(job.key) is None)
    jobs.extend(job for track in tracks for job in track.due(results))
    return sorted({job.key: job for job in jobs}.values(), key=lambda job: job.kind == "train")


def all_floors(tracks: Sequence[Track]) -> list[Job]:
    """Return the jobs that say what agreement costs nothing, of every task; none where nothing is to be explained."""
    tasks = {track.task.name: track for track in tracks}
    return [
        job
        for track in tasks.values()
        if track.plan.explain is not None
        for job in floors_jobs(track.plan.explain, track.plan, track.task, track.facts)
    ]


def count_explanations(tracks: Sequence[Track], results: Results) -> tuple[int, int]:
    """Return how many explanations the plan needs, floors among them, and how many of them are done or were tried."""
    floors = all_floors(tracks)
    counts = [track.list_explanations(results) for track in tracks]
    done = sum(results.get(job.key) is not None for job in floors)
    return len(floors) + sum(total for total, _ in counts), done + sum(each for _, each in counts)


def list_due_work(tracks: Sequence[Track], results: Results) -> list[int]:
    """Return the work of every training still to do, in images passed through a student."""
    return [work for track in tracks for work in track.list_due_work(results)]
