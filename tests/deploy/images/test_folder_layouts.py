"""Folders as people have them: what is understood, what is refused, and what a note says."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.folder import open_unsorted
from edgedistill_deploy.images.sets import NO_LABEL, ImageSplits
from edgedistill_deploy.images.sources import open_images
from reference.image_files import write_folder

_SETTINGS = '[data]\nsource = "."\n\n[teacher]\nname = "t"\n\n[subtask]\nname = "s"\n\n[student]\nname = "u"\n'


def found(splits: ImageSplits) -> dict[str, dict[str, int]]:
    """Return {split: {class: number of images}}, without empty ones; the class "" stands for no label."""
    sets = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        split: {
            "" if label == NO_LABEL else splits.class_names[label]: labels.count(label) for label in sorted(set(labels))
        }
        for split, images in sets.items()
        if images is not None and (labels := images.labels.tolist())
    }


SYSTEM = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    ".ipynb_checkpoints",
    "__MACOSX",
    ".AppleDouble",
    ".thumbnails",
    "Thumbnails",
    "@Recently-Snapshot",
    ".@__thumb",
    ".Trash-1000",
]


@pytest.mark.parametrize("name", SYSTEM)
@pytest.mark.parametrize("place", ["", "train/", "train/cat/", "train/cat/IMG_1/"])
def test_folders_of_systems_are_passed_over_at_every_level_and_counted(tmp_path: Path, name: str, place: str) -> None:
    write_folder(tmp_path, {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1, f"{place}{name}/deep": 3})
    splits = open_images(tmp_path)
    assert found(splits) == {"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 1}}
    assert f"Folders of the system passed over, with 3 images: {place}{name}." in splits.notes


@pytest.mark.parametrize("kind", ["begun", "finished"])
@pytest.mark.parametrize("name", ["edgedistill-run", "my expert"])
def test_a_run_folder_is_no_class_whatever_its_name(tmp_path: Path, kind: str, name: str) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 1, f"{name}/explain": 4})
    if kind == "begun":
        (tmp_path / name / "settings.toml").write_text(_SETTINGS)
    else:
        (tmp_path / name / "manifest.json").write_text(json.dumps({"kind": "bundle", "schema": 1}))
    splits = open_images(tmp_path)
    assert found(splits) == {"train": {"cat": 2, "dog": 1}}
    assert splits.notes == (f"Run folders passed over: {name}.",)


@pytest.mark.parametrize("text", ["[data]\n[teacher]\n", "not TOML", '{"kind": "page"}', "[" * 3000])
def test_a_class_may_hold_files_of_these_names(tmp_path: Path, text: str) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 1})
    for name in ("settings.toml", "manifest.json"):
        (tmp_path / "cat" / name).write_text(text)
    assert found(open_images(tmp_path)) == {"train": {"cat": 2, "dog": 1}}


@pytest.mark.parametrize(
    ("train", "val"), [("train2017", "val2017"), ("train_images", "Val-set"), ("training", "valid")]
)
def test_splits_with_something_behind_their_names(tmp_path: Path, train: str, val: str) -> None:
    write_folder(tmp_path, {f"{train}/cat": 2, f"{train}/dog": 1, f"{val}/cat": 1, f"{val}/dog": 1})
    assert found(open_images(tmp_path)) == {"train": {"cat": 2, "dog": 1}, "validation": {"cat": 1, "dog": 1}}


def test_a_class_may_begin_like_a_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"trainer": 1, "testtube/blue": 2, "value": 1})
    assert found(open_images(tmp_path)) == {"train": {"testtube": 2, "trainer": 1, "value": 1}}


def test_splits_below_every_class_are_understood(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat/train": 3, "cat/test": 1, "dog/train": 2, "dog/test/wet": 2})
    splits = open_images(tmp_path)
    assert found(splits) == {"train": {"cat": 3, "dog": 2}, "test": {"cat": 1, "dog": 2}}
    assert splits.notes[0] == f"The folders test, train below the classes of {tmp_path} were read as splits."


@pytest.mark.parametrize("dog", ["dog", "dog/puppies", "dog/train+dog/old", "dog/train+dog"])
def test_splits_below_some_classes_are_refused_never_merged(tmp_path: Path, dog: str) -> None:
    write_folder(tmp_path, {"cat/train": 3, "cat/test": 1, **dict.fromkeys(dog.split("+"), 2)})
    with pytest.raises(
        DataError, match=r"cat is divided into splits \(test\), and .*dog holds images outside of splits"
    ):
        open_images(tmp_path)


@pytest.mark.parametrize("above", ["images", "dataset/images", "a/b/c"])
@pytest.mark.parametrize("below", ["", "train/"])
def test_folders_around_the_classes_are_seen_through(tmp_path: Path, above: str, below: str) -> None:
    write_folder(tmp_path, {f"{above}/{below}cat": 2, f"{above}/{below}dog": 1, "annotations": 0})
    splits = open_images(tmp_path)
    assert found(splits) == {"train": {"cat": 2, "dog": 1}}
    assert (
        splits.notes[0] == f"The classes were read from {tmp_path / above}, the only folder with images in {tmp_path}."
    )


def test_a_folder_of_one_name_in_every_split_is_seen_through(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/images/cat": 2, "train/images/dog": 1, "val/images/cat": 1, "val/masks": 0})
    splits = open_images(tmp_path)
    assert found(splits) == {"train": {"cat": 2, "dog": 1}, "validation": {"cat": 1}}
    assert "The classes were read from the folder images in each of the splits." in splits.notes


def test_a_note_says_that_deeper_folders_belong_to_the_class_above(tmp_path: Path) -> None:
    write_folder(tmp_path, {"animals/cat": 2, "animals/dog": 1, "cars": 1})
    assert open_images(tmp_path).notes == (
        "Images in folders below a class count as images of that class: animals/cat, animals/dog.",
    )


@pytest.mark.parametrize("images", [0, 3])
def test_other_folders_beside_splits_do_not_stop(tmp_path: Path, images: int) -> None:
    write_folder(tmp_path, {"train/cat": 2, "train/dog": 1, "test/cat": 1, "test/dog": 1, "notes": images})
    splits = open_images(tmp_path)
    assert splits.class_names == ("cat", "dog")
    said = (
        "Passed over beside the splits: notes (3 images)." if images else "Folders without images passed over: notes."
    )
    assert splits.notes == (said,)


def test_loose_images_beside_class_folders_are_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, {".": 2, "train": 1, "train/cat": 2, "train/dog": 1, "test/cat": 1})
    splits = open_images(tmp_path)
    assert found(splits) == {"train": {"": 1, "cat": 2, "dog": 1}, "test": {"cat": 1}}
    assert splits.notes == (
        "In no class folder, and so without a label: train (1 image).",
        "Beside the class folders, 2 images passed over: 00.png, 01.png.",
    )


@pytest.mark.parametrize("inner", ["train/cat/test", "train/images/cat/val2017"])
def test_a_split_below_a_class_of_another_split_is_refused(tmp_path: Path, inner: str) -> None:
    write_folder(tmp_path, {inner: 1, "train/images/dog" if "images" in inner else "train/dog": 2})
    with pytest.raises(DataError, match=r"is called like a split and lies in another, train: .* rename the folder"):
        open_images(tmp_path)


def test_a_folder_below_a_class_may_be_called_like_its_own_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/dog/training": 2, "train/cat": 1, "test/dog": 1, "test/cat": 1})
    assert found(open_images(tmp_path))["train"] == {"cat": 1, "dog": 2}


def test_a_folder_of_loose_images_is_named_also_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "photos", {".": 2})
    monkeypatch.chdir(tmp_path / "photos")
    for root in (Path(), tmp_path / "photos"):
        assert open_images(root).notes == ("In no class folder, and so without a label: photos (2 images).",)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({".": 3}, {"train": {"": 3}}),
        ({"train": 2}, {"train": {"": 2}}),
        ({"train": 2, "val": 1}, {"train": {"": 2}, "validation": {"": 1}}),
        ({"train": 4, "test/cat": 1, "test/dog": 2}, {"train": {"": 4}, "test": {"cat": 1, "dog": 2}}),
        ({"train2017": 4, "val/cat": 1}, {"train": {"": 4}, "validation": {"cat": 1}}),
        ({"deep/images/train": 2, "deep/images/val": 1}, {"train": {"": 2}, "validation": {"": 1}}),
        ({"train": 1, "train/images/cat": 2, "test/images/cat": 1}, {"train": {"": 1, "cat": 2}, "test": {"cat": 1}}),
        ({"train/cat": 2, "test/cat": 1, "test": 3}, {"train": {"cat": 2}, "test": {"cat": 1}}),
    ],
)
def test_images_in_no_class_folder_have_no_label(
    tmp_path: Path, folders: dict[str, int], expected: dict[str, dict[str, int]]
) -> None:
    assert found(open_images(write_folder(tmp_path, folders))) == expected


def test_two_folders_for_one_split_are_refused_also_without_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2, "training/cat": 1})
    with pytest.raises(DataError, match=r"two folders for the train split; keep one, training or train\."):
        open_images(tmp_path)


def test_a_folder_named_like_a_split_beside_classes_stays_a_class(tmp_path: Path) -> None:
    assert found(open_images(write_folder(tmp_path, {"train": 2, "bus": 1}))) == {"train": {"bus": 1, "train": 2}}


def test_unsorted_folders_give_every_image_without_a_label(tmp_path: Path) -> None:
    write_folder(tmp_path, {".": 1, "2021/summer": 2, "train": 1, "@eaDir": 4})
    (tmp_path / "2021" / "IMG.CR2").write_bytes(b"x")
    opened = open_unsorted(tmp_path)
    assert found(opened) == {"train": {"": 4}}
    assert opened.notes == ("Folders of the system passed over, with 4 images: @eaDir.",)
    assert [(Path(each.path).name, each.class_name, each.lost) for each in opened.skipped] == [("IMG.CR2", "", True)]


def test_a_split_that_may_be_a_class_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2, "train/steam": 1, "bus": 1})
    with pytest.raises(
        DataError, match=r"train can be a split or a class: .* and bus beside it is a class\. Rename it"
    ):
        open_images(tmp_path)


def test_files_that_are_not_read_are_named_with_class_and_reason(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 1})
    others = [
        "IMG_1.HEIC",
        "IMG_2.heif",
        "00.heic",
        "A.CR2",
        "00.dng",
        "a.mp4",
        "b.psd",
        "notes.txt",
        "Thumbs.db",
        "raw",
    ]
    for name in others:
        (tmp_path / "cat" / name).write_bytes(b"x")
    skipped = open_images(tmp_path).skipped
    assert {Path(each.path).name for each in skipped if each.lost} == {"IMG_1.HEIC", "IMG_2.heif", "A.CR2", "b.psd"}
    assert {Path(each.path).name for each in skipped if not each.lost} == {
        "00.heic",
        "00.dng",
        "a.mp4",
        "notes.txt",
        "raw",
    }, "a picture that also lies there as PNG is not lost"
    assert {each.class_name for each in skipped} == {"cat"}
    reasons = {Path(each.path).name: each.reason for each in skipped}
    assert reasons["IMG_1.HEIC"].startswith("HEIC (pip install pillow-heif")
    assert reasons["00.dng"].endswith("beside an image of the same name")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
def test_an_image_without_a_suffix_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path, {"cat": 1})
    Image.new("RGB", (8, 8), "red").save(tmp_path / "cat" / "4711", kind)
    train = open_images(tmp_path).train
    assert len(train) == 2
    assert train.read(1).size == (8, 8)


def test_only_heic_in_all_folders_says_how_it_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "IMG_1.heic").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"hold no images .* Not read: 1 HEIC \(pip install pillow-heif, or save as JPEG\)"
    ):
        open_images(tmp_path)


NAMES = ["cat", "dog", "train", "test", "val2017", "images", "@eaDir", "notes"]
PATHS = st.dictionaries(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join), st.integers(1, 2), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(counts=PATHS)
def test_of_any_folder_all_images_are_used_once_or_named_or_it_is_refused(
    tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]
) -> None:
    root = write_folder(tmp_path_factory.mktemp("any"), counts)
    try:
        splits = open_images(root)
    except DataError:
        return
    sets = [each for each in (splits.train, splits.validation, splits.test) if each is not None]
    rows = [(each, row) for each in sets for row in range(len(each))]
    used = [Path(each.name(row)).relative_to(root) for each, row in rows]
    assert len(set(used)) == len(used), "no image twice"
    for (images, row), path in zip(rows, used, strict=True):
        assert "@eaDir" not in path.parts
        if images.labels[row] == NO_LABEL:
            assert not (root / path).parent.joinpath("cat").is_dir() or "train" in path.parts, "no class beside it"
            continue
        assert splits.class_names[images.labels[row]] in path.parts[:-1]
        if any(name in path.parts[:-1] for name in ("test", "val2017")) and images is splits.train:
            below = path.parts[path.parts.index(splits.class_names[images.labels[row]]) :]
            assert not {"test", "val2017"} & set(below[1:2]), "a split right below a class is never merged into it"
    unused = {path.relative_to(root) for path in root.rglob("*.png")} - set(used)
    notes = " ".join(splits.notes)
    for path in unused:
        assert any(part in notes for part in (path.parts[0], path.parts[-2])), (path, notes)
