import shutil
from pathlib import Path

import pytest

from edgedistill.config import DistillConfig
from edgedistill.data.workers import Workers, choose_workers
from edgedistill.inspection.config import InspectConfig
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images

PREPROCESS = Preprocess(size=(16, 16))


@pytest.fixture
def images(tiny_digits: Path) -> ImageSet:
    return open_images(f"npz:{tiny_digits}").train


@pytest.mark.parametrize(
    ("asked", "seconds", "cores", "threads", "beside_gpu", "chosen"),
    [
        (3, 0.0, 1, 1, False, 3),  # asked for
        (0, 9.0, 8, 8, True, 0),
        ("auto", 1e-6, 8, 8, True, 0),  # short work
        ("auto", 9.0, 2, 2, False, 1),
        ("auto", 9.0, 2, 2, True, 2),
        ("auto", 9.0, 1, 1, True, 0),
        ("auto", 9.0, 2, 1, False, 0),  # the other processor is somebody else's
        ("auto", 9.0, 64, 64, True, 8),
        ("auto", 9.0, 6, 6, False, 3),
    ],
)
def test_workers_suit_processors_and_work(
    images: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
    asked: Workers,
    seconds: float,
    cores: int,
    threads: int,
    beside_gpu: bool,
    chosen: int,
) -> None:
    monkeypatch.setattr("edgedistill.data.workers.os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("edgedistill.data.workers.torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("edgedistill.data.workers._decoding_seconds", lambda *_: seconds)
    assert choose_workers(asked, images, PREPROCESS, 8, passes=1, beside_gpu=beside_gpu) == chosen


def test_processes_of_a_training_share_the_processors(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.data.workers.os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("edgedistill.data.workers._decoding_seconds", lambda *_: 9.0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_workers("auto", images, PREPROCESS, 8, passes=1, beside_gpu=True) == 2


@pytest.mark.parametrize(("free", "chosen"), [(0, 0), (10 * 2 * 2 * 8 * 768, 8), (3 * 2 * 2 * 8 * 768, 3)])
def test_workers_of_whom_nobody_asked_fit_into_shared_memory(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, chosen: int
) -> None:
    monkeypatch.setattr("edgedistill.data.workers.os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr("edgedistill.data.workers._decoding_seconds", lambda *_: 9.0)
    monkeypatch.setattr("edgedistill.data._shared_memory.PLACE", tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert choose_workers("auto", images, PREPROCESS, 8, passes=1, beside_gpu=True) == chosen


def test_a_small_set_is_decoded_here(images: ImageSet) -> None:
    assert choose_workers("auto", images.select(range(5)), PREPROCESS, 8, passes=1, beside_gpu=True) == 0


@pytest.mark.parametrize("config", [DistillConfig, InspectConfig])
def test_what_is_no_number_of_processes_is_refused(config: type[DistillConfig] | type[InspectConfig]) -> None:
    assert config().workers == "auto"
    with pytest.raises(UsageError, match="workers must be a number of at least 0, and -1 was given"):
        config(workers=-1)
    with pytest.raises(UsageError, match="workers cannot be 'many'"):
        config(workers="many")  # type: ignore[arg-type]  # as a user may write it
