"""WebDataset shards on this machine give the images of the folder that they were made of."""

import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.decode import UnusableImageError
from edgedistill_deploy.images.encoded import _shard_index, shards
from edgedistill_deploy.images.sources import absolute_source, open_images
from reference.image_sources import require_same, samples_of, write_pictures, write_shard


@pytest.fixture
def files(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))


def test_shards_hold_what_the_folder_holds(tmp_path: Path, pictures: Path, files: list[Path]) -> None:
    samples = samples_of(files)
    for number in range(3):
        write_shard(tmp_path / f"a-{number:03}.tar", samples[4 * number : 4 * number + 4])
    images = open_images(f"wds:{tmp_path}/a-{{000..002}}.tar")
    assert (images.validation, images.test, images.notes, images.skipped) == (None, None, (), ())
    require_same(images.train, open_images(pictures).train)
    assert images.train.name(5) == f"{tmp_path}/a-001.tar/000005.png"
    for pattern in (f"{tmp_path}/a-00?.tar".replace("?", "*"), f"{tmp_path}", f"{tmp_path}/a-{{000,001,002}}.tar"):
        require_same(open_images(f"wds:{pattern}").train, images.train)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_of_tar_and_long_names(tmp_path: Path, pictures: Path, files: list[Path], kind: int) -> None:
    long = "folder/" * (18 if kind == tarfile.USTAR_FORMAT else 60)
    samples = [(f"{long}{key}{'é' if kind != tarfile.USTAR_FORMAT else ''}", parts) for key, parts in samples_of(files)]
    write_shard(tmp_path / "a.tar", samples, format=kind)
    require_same(open_images(f"wds:{tmp_path}/a.tar").train, open_images(pictures).train)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"cls": b"7\n"}, ("7",)),
        ({"txt": b" night heron "}, ("night heron",)),
        ({"json": b'{"label": 3, "class_name": "crane"}'}, ("crane",)),
        ({"json": b'{"label": 3}'}, ("3",)),
        ({"json": b'"crane"'}, ("crane",)),
        ({"txt": b"a caption", "cls": b"12"}, ("12",)),
        ({"json": b"{", "txt": b"heron"}, ("heron",)),
    ],
)
def test_where_a_label_stands(tmp_path: Path, files: list[Path], parts: dict[str, bytes], names: tuple[str]) -> None:
    write_shard(tmp_path / "a.tar", [("1", {"png": files[0].read_bytes(), **parts})])
    assert open_images(f"wds:{tmp_path}/a.tar").train.class_names == names


def test_numbers_are_in_the_order_of_numbers(tmp_path: Path, files: list[Path]) -> None:
    samples = [(str(n), {"png": files[n].read_bytes(), "cls": str(label).encode()}) for n, label in enumerate([10, 9])]
    images = open_images(f"wds:{write_shard(tmp_path / 'a.tar', samples)}").train
    assert images.class_names == ("9", "10")
    assert images.labels.tolist() == [1, 0]


def test_splits_are_those_that_the_shards_are_named_by(tmp_path: Path, files: list[Path]) -> None:
    samples = samples_of(files)
    for place, name in enumerate(("birds-train-000.tar", "birds-val-000.tar", "test/000.tar")):
        write_shard(tmp_path / name, samples[place::3])
    images = open_images(f"wds:{tmp_path}/{{birds-{{train,val}}-000,test/000}}.tar")
    assert images.validation is not None
    assert images.test is not None
    assert [len(each) for each in (images.train, images.validation, images.test)] == [4, 4, 4]
    assert images.test.name(0).endswith("test/000.tar/000002.png")


def test_samples_without_an_image_or_a_label_are_counted(tmp_path: Path, files: list[Path]) -> None:
    samples = samples_of(files[:2])
    samples += [("x", {"cls": b"cat"}), ("y", {"png": files[3].read_bytes()}), ("z", {"json": b"[1]", "jpg": b""})]
    images = open_images(f"wds:{write_shard(tmp_path / 'a.tar', samples)}")
    assert len(images.train) == 2
    assert images.notes == (
        "Samples without a label (.cls, .json or .txt) passed over in the shards: 2.",
        "Samples without an image passed over in the shards: 1.",
    )
    write_shard(tmp_path / "b.tar", samples[2:])
    with pytest.raises(DataError, match=r"The 1 shards of wds:.*b\.tar hold no labelled image; .*without a label"):
        open_images(f"wds:{tmp_path}/b.tar")


def test_a_shard_is_read_once_and_again_when_it_changes(
    tmp_path: Path, files: list[Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_shard(tmp_path / "a.tar", samples_of(files))
    first = open_images(f"wds:{shard}").train
    made = list(own_cache.rglob("*.npz"))
    assert len(made) == 1
    with monkeypatch.context() as patched:
        patched.setattr(_shard_index, "_make_index", lambda *_: pytest.fail("the shard was read again"))
        require_same(open_images(f"wds:{shard}").train, first)
    write_shard(shard, samples_of(files[:5]))
    assert len(open_images(f"wds:{shard}").train) == 5


def test_a_damaged_or_lying_index_is_made_anew(tmp_path: Path, files: list[Path], own_cache: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", samples_of(files))
    wanted = open_images(f"wds:{shard}").train
    cached = next(own_cache.rglob("*.npz"))
    with np.load(cached) as held:
        arrays = dict(held)
    for name, value in (("offsets", -1), ("sizes", 1 << 60), ("name_ends", 1 << 40), ("passed_over", 0)):
        lying = {**arrays, name: np.full_like(arrays[name], value)} if value else {**arrays, name: arrays[name][:1]}
        np.savez(cached, **lying)
        require_same(open_images(f"wds:{shard}").train, wanted)
    cached.write_bytes(b"PK")
    require_same(open_images(f"wds:{shard}").train, wanted)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file"))
    shard = write_shard(tmp_path / "a.tar", samples_of(files))
    assert len(open_images(f"wds:{shard}").train) == 12


def test_threads_and_other_processes_read_the_same(tmp_path: Path, files: list[Path], pictures: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", samples_of(files))
    images = pickle.loads(pickle.dumps(open_images(f"wds:{shard}").train))
    require_same(images, open_images(pictures).train)
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(images.read, [row for _ in range(4) for row in range(12)]))
    for row, image in enumerate(read):
        assert image == images.read(row % 12)


def test_nothing_is_extracted_from_a_hostile_shard(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "secret.png").write_bytes(files[0].read_bytes())
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("up.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("pipe.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, str(tmp_path / "secret.png"), 0
            archive.addfile(member)
        for name in ("../../escape.png", "../../escape.cls", "/etc/absolute.png", "/etc/absolute.cls"):
            content = files[1].read_bytes() if name.endswith("png") else b"cat"
            member = tarfile.TarInfo(name)
            member.size = len(content)
            with Path(files[1]).open("rb") if name.endswith("png") else (tmp_path / "label").open("w+b") as stream:
                if not name.endswith("png"):
                    stream.write(content)
                    stream.seek(0)
                archive.addfile(member, stream)
    before = sorted(tmp_path.rglob("*"))
    images = open_images(f"wds:{tmp_path}/a.tar").train
    assert [images.name(row).partition("a.tar/")[2] for row in range(len(images))] == [
        "../../escape.png",
        "/etc/absolute.png",
    ]
    assert images.read(0) == images.read(1)
    cached = {each for each in tmp_path.rglob("*") if "cache" in each.parts[len(tmp_path.parts) :][0]}
    assert sorted(set(tmp_path.rglob("*")) - cached) == before


def test_pictures_that_cannot_be_used_are_told_as_in_folders(tmp_path: Path, files: list[Path]) -> None:
    samples = [("1", {"png": b"", "cls": b"a"}), ("2", {"png": files[0].read_bytes()[:90], "cls": b"a"})]
    images = open_images(f"wds:{write_shard(tmp_path / 'a.tar', samples)}").train
    for row, reason in enumerate(("empty (0 bytes)", "cut off or damaged")):
        with pytest.raises(UnusableImageError, match=rf"a\.tar/{row + 1}\.png") as refused:
            images.read(row)
        assert refused.value.reason == reason


def test_an_image_of_no_sensible_size_is_not_read(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_IMAGE_BYTES", 1000)
    images = open_images(f"wds:{write_shard(tmp_path / 'a.tar', samples_of(files[:1]))}").train
    with pytest.raises(UnusableImageError, match=r"000000\.png has \d+ bytes, more than the 1000 that are read"):
        images.read(0)


def test_what_is_no_shard_is_refused(tmp_path: Path, files: list[Path]) -> None:
    samples = samples_of(files)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(files[0], "a.png")
    (tmp_path / "text.tar").write_text("no tar at all, " * 100)
    whole = write_shard(tmp_path / "whole.tar", samples).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:2000])
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("packed.tar", r"The shard .*packed\.tar is compressed, so no image can be read alone; unpack it"),
        ("text.tar", r"text\.tar is no tar archive"),
        ("cut.tar", r"cut\.tar is cut off: the file at byte 0 claims \d+ bytes"),
    ):
        with pytest.raises(DataError, match=message):
            open_images(f"wds:{tmp_path}/{name}")
    for name, message in (
        ("nowhere-{000..003}.tar", r"There is no shard .*nowhere-000\.tar and 3 more of the 4 shards"),
        ("empty", r"There are no shards .*empty; a folder of shards holds files that end in \.tar"),
        ("whole.tar?clases=x", r"has the option 'clases', which is none. Did you mean classes\?"),
        ("whole.tar?classes=", r"gives 'classes' no value"),
        ("whole.tar?classes=nowhere.txt", r"nowhere\.txt cannot be read"),
    ):
        with pytest.raises(UsageError, match=message):
            open_images(f"wds:{tmp_path}/{name}")


def test_class_names_that_do_not_fit_are_refused(tmp_path: Path, files: list[Path]) -> None:
    samples = [(str(n), {"png": files[n].read_bytes(), "cls": str(n).encode()}) for n in range(3)]
    shard = write_shard(tmp_path / "a.tar", samples)
    names = tmp_path / "names.txt"
    for text, message in (
        ("a\nb\n", r"has the label 2, and the class names end at 1"),
        ("a\na\nb\n", r"must name each class once"),
    ):
        names.write_text(text)
        with pytest.raises((DataError, UsageError), match=message):
            open_images(f"wds:{shard}?classes={names}")
    names.write_text("a\nb\nc\nd\n")
    assert open_images(f"wds:{shard}?classes={names}").class_names == ("a", "b", "c", "d")


def test_imagenets_numbers_need_no_file_of_names(tmp_path: Path, files: list[Path]) -> None:
    samples = [(str(n), {"png": files[n].read_bytes(), "cls": str(n).encode()}) for n in (0, 5)]
    images = open_images(f"wds:{write_shard(tmp_path / 'a.tar', samples)}?classes=imagenet").train
    assert len(images.class_names) == 1000
    assert len(images.with_classes(["electric ray"])) == 1
    assert absolute_source("wds:a.tar?classes=imagenet").endswith("a.tar?classes=imagenet")


def test_a_large_shard_keeps_no_object_for_an_image(tmp_path: Path) -> None:
    pixels = write_pictures(tmp_path / "one", 1, ("x",))[0].read_bytes()
    samples = [(f"{n:05}", {"png": pixels, "cls": b"x"}) for n in range(2000)]
    images = open_images(f"wds:{write_shard(tmp_path / 'a.tar', samples)}").train
    assert len(pickle.dumps(images)) < 2000 * 100
