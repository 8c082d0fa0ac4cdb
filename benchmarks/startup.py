"""What `edgedistill --help` costs beside importing what prints it.

    python -m benchmarks.startup

Each line is a command, its CPU time (user and system) and the ratio to two imports: typer and rich alone, and typer
with the module that renders its help, which loads rich's Markdown and tracebacks too. All take turns; the figures are
medians of 20 rounds.
"""

import os
import resource
import statistics
import subprocess
import sys

ROUNDS = 20
ALONE, RENDERING = "import typer, rich", "import typer, typer.rich_utils"
CASES = {
    ALONE: ("-c", ALONE),
    RENDERING: ("-c", RENDERING),
    "edgedistill --help": ("-m", "edgedistill_cli", "--help"),
    "edgedistill build --help": ("-m", "edgedistill_cli", "build", "--help"),
}


def measure_cpu_ms(argv: tuple[str, ...]) -> float:
    """Return the CPU milliseconds of a new Python."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A Python that keeps no compiled files would time the compiler.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL, env=kept)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure all in turns and print a line for each."""
    for argv in CASES.values():
        measure_cpu_ms(argv)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, argv in CASES.items():
            times[name].append(measure_cpu_ms(argv))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(
            f"{name:<32} {median:4.0f} ms, {median / medians[ALONE]:.2f} times typer and rich alone,"
            f" {median / medians[RENDERING]:.2f} times what renders help"
        )


if __name__ == "__main__":
    main()
