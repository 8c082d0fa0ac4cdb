"""Make everything that the grid needs: `python -m benchmarks.real.prepare FOLDER`.

FOLDER gets `packages/` (some 300 MB), the teachers `lite0/` and `lite2/`, and the images `animals/`, `animals-300/`
(for one build), `animals-exchanged/` (to choose settings on) and `landscapes/`. What is there already is not made
again. Debian's `apt-get` and `dpkg-deb` are needed.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.real.animals import EXCHANGED_COUNTS, EXCHANGED_SEED, SMALL_COUNTS, make_animals
from benchmarks.real.landscapes import make_landscapes
from benchmarks.real.packages import FetchError
from benchmarks.real.teachers import REPEATS, make_teacher
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.errors import EdgeDistillError

LABELLING_SIZE = 224  # pixels, at which the teacher names landscapes


def prepare(folder: Path) -> None:
    """Make teachers and images in `folder`."""
    packages = folder / "packages"
    for size in REPEATS:
        print(f"teacher: {make_teacher(size, packages, folder / size)}", flush=True)
    print(f"images: {make_animals(folder / 'animals', packages)}", flush=True)
    print(f"images: {make_animals(folder / 'animals-300', packages, SMALL_COUNTS)}", flush=True)
    exchanged = make_animals(
        folder / "animals-exchanged", packages, EXCHANGED_COUNTS, seed=EXCHANGED_SEED, exchanged=True
    )
    print(f"images: {exchanged}", flush=True)
    teacher = load_teacher(str(folder / "lite2"), image_size=LABELLING_SIZE)
    print(f"images: {make_landscapes(folder / 'landscapes', packages, teacher)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    try:
        prepare(parser.parse_args().folder.absolute())
    except (FetchError, EdgeDistillError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
