"""How many images each part of a calibration runs, so that it ends in about a minute on two cores for a model of any
size: the larger a model, the fewer images, within bounds.
"""

# Multiply-adds that two cores do in INT8, or in float, in about these seconds.
CANDIDATES_BUDGET = 2e11  # 15 s of INT8 without VNNI: choosing among ranges
SAMPLE_BUDGET = 2e11  # 4 s: single nodes of files that hold their limit
NODES_BUDGET = 4e12  # 75 s: single nodes, where a file loses too much or all are asked for
TEACHER_BUDGET = 8e11  # 15 s: the teacher's answers to the held-out images
FLOAT16_BUDGET = 1.2e10  # 4 s, since every value is read: what FP16 can hold
SETS_BUDGET = 1e11  # 8 s to measure ranges on one set, and about as long to judge each file on another
FEWEST_IMAGES = 64
MOST_OF_SET, FEWEST_OF_SET = 512, 256
# No value of two networks was more than 1.5 times as large on 248 photographs as on 32, and FP16 has room for 4 times
# (`python -m benchmarks.float16_images`).
FEWEST_FOR_FLOAT16 = 32
FEWEST_FOR_NODES, MOST_FOR_NODES = 16, 256


def affordable(budget: float, multiply_adds: float, most: int, fewest: int = FEWEST_IMAGES) -> int:
    """Return how many images, from `fewest` to `most`, a budget allows where each takes so many multiply-adds."""
    return min(most, max(fewest, int(budget / max(1.0, multiply_adds))))


def set_size(asked: int | str, multiply_adds: float) -> int:
    """Return how many images a setting means; `auto` are up to `MOST_OF_SET`, where a model takes so many each."""
    if isinstance(asked, str):
        return affordable(SETS_BUDGET, multiply_adds, MOST_OF_SET, FEWEST_OF_SET)
    return asked
