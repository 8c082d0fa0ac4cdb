import dataclasses
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.bundle import folder as bundle_module
from edgedistill_deploy.bundle import manifest as _manifest
from edgedistill_deploy.bundle.folder import Bundle, create_bundle, open_bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import write_golden
from edgedistill_deploy.errors import BundleError, NotWrittenError, UsageError
from edgedistill_deploy.images.preprocess import Preprocess
from reference.small_disks import largest_file

_SUBTASK = {"name": "pets", "class_names": ["cat", "dog"], "class_indices": [281, 207]}


def _bundle(folder: Path) -> Bundle:
    bundle = create_bundle(
        folder,
        subtask=_SUBTASK,
        preprocess=Preprocess(size=(8, 6), interpolation="bicubic"),
        teacher={"name": "timm:resnet50"},
        student={"name": "tiny"},
        provenance={"edgedistill": "0.1.0"},
    )
    (folder / "model.fp32.onnx").write_bytes(b"weights")
    return bundle.with_file("model.fp32", folder / "model.fp32.onnx")


def _edited(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """Write a sound bundle whose manifest was changed by hand."""
    _bundle(folder)
    record = json.loads((folder / "manifest.json").read_text())
    edit(record)
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


def test_what_was_created_is_what_opens(tmp_path: Path) -> None:
    created = _bundle(tmp_path / "run")
    opened = open_bundle(tmp_path / "run")
    assert opened == created
    assert opened.class_names == ("cat", "dog")
    assert opened.preprocess == Preprocess(size=(8, 6), interpolation="bicubic")
    assert opened.manifest["preprocess"]["digest"] == opened.preprocess.digest
    assert opened.manifest["teacher"] == {"name": "timm:resnet50"}
    assert (opened.manifest["schema"], opened.manifest["kind"]) == (1, "bundle")


def test_a_file_is_registered_with_its_hash_and_size(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert bundle.manifest["files"] == {"model.fp32": {"path": "model.fp32.onnx", "sha256": sha256, "bytes": 7}}
    assert bundle.file("model.fp32").read_bytes() == b"weights"
    assert bundle.model_sha256("model.fp32") == sha256
    assert bundle.has("model.fp32")
    assert not bundle.has("model.int8")
    assert bundle.precisions == ("fp32",)


def test_adding_a_file_returns_a_new_value(tmp_path: Path) -> None:
    before = _bundle(tmp_path)
    (tmp_path / "distill").mkdir()
    (tmp_path / "distill" / "student.safetensors").write_bytes(b"s")
    after = before.with_file("student", tmp_path / "distill" / "student.safetensors")
    assert not before.has("student")
    assert after.manifest["files"]["student"]["path"] == "distill/student.safetensors"
    assert open_bundle(tmp_path) == after


def test_a_role_can_be_given_another_file(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    (tmp_path / "model.fp32.onnx").write_bytes(b"better weights")
    bundle = bundle.with_file("model.fp32", tmp_path / "model.fp32.onnx")
    assert bundle.file("model.fp32").read_bytes() == b"better weights"


def test_relative_paths_and_linked_folders_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _bundle(tmp_path / "run")
    (tmp_path / "latest").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    bundle = open_bundle(Path("latest"))
    assert bundle.file("model.fp32") == Path("latest/model.fp32.onnx")
    (tmp_path / "run" / "golden.npz").write_bytes(b"g")
    assert bundle.with_file("golden", Path("latest/golden.npz")).has("golden")


def test_fields_are_replaced_whole(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path).with_fields(
        stages={"distill": {"seconds": 3.5, "widths": (1, 2)}}, student={"name": "new"}
    )
    assert bundle.manifest["stages"] == {"distill": {"seconds": 3.5, "widths": [1, 2]}}
    assert bundle.manifest["student"] == {"name": "new"}
    assert open_bundle(tmp_path) == bundle


def test_fields_may_come_out_of_another_manifest(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    assert bundle.with_fields(copy=bundle.manifest).manifest["copy"] == dict(bundle.manifest)


def test_what_was_given_can_be_changed_afterwards(tmp_path: Path) -> None:
    stages = {"distill": {"seconds": 1}}
    bundle = _bundle(tmp_path).with_fields(stages=stages)
    stages["distill"]["seconds"] = 2
    assert bundle.manifest["stages"]["distill"]["seconds"] == 1


def test_a_bundle_cannot_be_changed(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    with pytest.raises(TypeError, match="does not support item assignment"):
        bundle.manifest["schema"] = 2  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bundle.path = tmp_path / "other"  # type: ignore[misc]


def test_a_bundle_travels_to_worker_processes(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    assert pickle.loads(pickle.dumps(bundle)) == bundle


def test_the_manifest_is_not_replaced_by_one_that_cannot_be_read(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match=r"subtask\.class_indices must list one index for each"):
        bundle.with_fields(subtask={**_SUBTASK, "class_indices": [1]})
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("name", ["schema", "kind", "files"])
def test_the_bundles_own_fields_cannot_be_set(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"The manifest's {name} cannot be set; with_file registers files"):
        _bundle(tmp_path).with_fields(**{name: {}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_fields_that_are_no_json_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="The manifest takes JSON values only"):
        _bundle(tmp_path).with_fields(stages={"a": value})


def test_creating_twice_is_refused(tmp_path: Path) -> None:
    _bundle(tmp_path)
    with pytest.raises(BundleError, match="is a bundle already; open it, or choose another folder"):
        _bundle(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"The folder .*file.run cannot be made: Not a directory"):
        _bundle(tmp_path / "file" / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_manifest_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    with largest_file(100), pytest.raises(NotWrittenError, match=r"manifest\.json cannot be written: File too large"):
        bundle.with_fields(stages={"distill": "done"})
    assert open_bundle(tmp_path).manifest["stages"] == {}


@pytest.mark.parametrize("link", ["manifest.json", "golden.npz"])
def test_a_link_is_not_written_through(tmp_path: Path, link: str) -> None:
    bundle = _bundle(tmp_path / "run")
    theirs = tmp_path / "theirs"
    theirs.write_bytes((tmp_path / "run" / "manifest.json").read_bytes())
    (tmp_path / "run" / link).unlink(missing_ok=True)
    (tmp_path / "run" / link).symlink_to(theirs)
    before = theirs.read_bytes()
    golden = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2), np.float32)
    with pytest.raises(BundleError, match="leads out of the bundle; it is refused"):
        write_golden(bundle.path / "golden.npz", *golden) if link == "golden.npz" else bundle.with_fields(stages={})
    assert theirs.read_bytes() == before


def test_files_outside_the_folder_are_not_registered(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "run")
    outside = tmp_path / "secret"
    outside.write_bytes(b"x")
    (tmp_path / "run" / "link").symlink_to(outside)
    for path in (outside, tmp_path / "run" / ".." / "secret", tmp_path / "run" / "link"):
        with pytest.raises(BundleError, match="leads out of the bundle; it is refused"):
            bundle.with_file("golden", path)


def test_only_finished_files_are_registered(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    for name in ("golden.npz", ".", "manifest.json"):
        with pytest.raises(BundleError, match="cannot be registered for golden: it is not a file of the bundle"):
            bundle.with_file("golden", tmp_path / name)


# What is refused on opening


def test_a_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    _bundle(tmp_path)
    (tmp_path / "model.fp32.onnx").write_bytes(b"weighty")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx was changed after it was registered for model\.fp32"):
        open_bundle(tmp_path)
    unchecked = open_bundle(tmp_path, verify=False)
    with pytest.raises(BundleError, match=r"its sha256 differs; restore or rebuild it"):
        unchecked.file("model.fp32")


def test_a_file_of_another_size_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _bundle(tmp_path)
    (tmp_path / "model.fp32.onnx").write_bytes(b"a" * 50)
    monkeypatch.delattr(bundle_module, "sha256_of_file")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx has 50 bytes, but 7 were registered for model\.fp32"):
        open_bundle(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _bundle(tmp_path)
    (tmp_path / "model.fp32.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx, the file for model\.fp32, is missing"):
        open_bundle(tmp_path)


def test_a_role_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no model\.int8; it has model\.fp32\."):
        _bundle(tmp_path).file("model.int8")


def test_an_empty_bundle_says_so(tmp_path: Path) -> None:
    bundle = Bundle(path=tmp_path, manifest={**_bundle(tmp_path).manifest, "files": {}})
    with pytest.raises(BundleError, match=r"has no golden; it has no files\."):
        bundle.model_sha256("golden")


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = _bundle(tmp_path)
    path = tmp_path / "model.fp32.onnx"
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(bundle_module, "sha256_of_file", counted)
    for _ in range(3):
        bundle.file("model.fp32")
    assert len(hashed) == 0, "hashed when it was registered"
    os.utime(path, ns=(1, 1))
    for _ in range(3):
        bundle.file("model.fp32")
    assert len(hashed) == 1


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"weights")
    _bundle(tmp_path / "run")
    (tmp_path / "run" / "model.fp32.onnx").unlink()
    (tmp_path / "run" / "model.fp32.onnx").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx leads out of the bundle; it is refused"):
        open_bundle(tmp_path / "run")


def test_a_linked_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "model.fp32.onnx").write_bytes(b"weights")
    _edited(tmp_path / "run", lambda r: r["files"]["model.fp32"].update(path="sub/model.fp32.onnx"))
    (tmp_path / "run" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="leads out of the bundle; it is refused"):
        open_bundle(tmp_path / "run")


def test_a_link_inside_the_bundle_is_fine(tmp_path: Path) -> None:
    _bundle(tmp_path)
    (tmp_path / "model.fp32.onnx").rename(tmp_path / "blob")
    (tmp_path / "model.fp32.onnx").symlink_to("blob")
    assert open_bundle(tmp_path).file("model.fp32").read_bytes() == b"weights"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(BundleError, match=r"leads out of the bundle|not a file of the bundle"):
        bundle.with_file("golden", tmp_path / "circle")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:\\x",
        "C:x",
        "\\\\host\\x",
        "a\\..\\..\\x",
        "a\0b",
        "",
        ".",
        "manifest.json",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    _edited(tmp_path / "run", lambda r: r["files"]["model.fp32"].update(path=path))
    with pytest.raises(BundleError, match=r"the path .* of model\.fp32 leads out of the bundle; it is refused"):
        open_bundle(tmp_path / "run")


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.sampled_from(["..", ".", "a", "", "/", "b/..", "~", "x.onnx"]), max_size=5))
def test_a_path_that_is_let_through_stays_inside(parts: list[str]) -> None:
    relative = "/".join(parts)
    if _manifest._stays_inside(relative):
        assert os.path.normpath(f"/bundle/{relative}").startswith("/bundle/")
        assert not os.path.isabs(relative)  # noqa: PTH117  # the judgement under test is made with pathlib


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda r: r.update(schema=2),
            r"schema 2, written by a newer EdgeDistill; this one reads up to schema 1\. Upgrade",
        ),
        (lambda r: r.update(schema=0), r"schema is 0; it must be a whole number"),
        (lambda r: r.update(schema="1"), r"schema is '1'"),
        (lambda r: r.update(schema=True), r"schema is True"),
        (lambda r: r.pop("schema"), r"schema is None"),
        (lambda r: r.update(kind="parity"), r"is not the manifest of a bundle"),
        (lambda r: r.pop("teacher"), r"damaged: teacher must be a JSON object"),
        (lambda r: r.update(files=[]), r"damaged: files must be a JSON object"),
        (lambda r: r.update(subtask="pets"), r"damaged: subtask must be a JSON object"),
        (lambda r: r["subtask"].pop("name"), r"subtask\.name must be a string"),
        (lambda r: r["subtask"].update(class_names=[]), r"subtask\.class_names must list different names"),
        (lambda r: r["subtask"].update(class_names=["a", "a"]), r"subtask\.class_names"),
        (lambda r: r["subtask"].update(class_names=["a", 1]), r"subtask\.class_names"),
        (lambda r: r["subtask"].update(class_names={"a": 1}), r"subtask\.class_names"),
        (lambda r: r["subtask"].update(class_indices=[1]), r"subtask\.class_indices"),
        (lambda r: r["subtask"].update(class_indices=[1, -1]), r"subtask\.class_indices"),
        (lambda r: r["subtask"].update(class_indices=[1, True]), r"subtask\.class_indices"),
        (lambda r: r["subtask"].update(class_members=[[1]]), r"subtask\.class_members must list the indices of each"),
        (lambda r: r["subtask"].update(class_members=[[1], []]), r"class_members must list different indices"),
        (lambda r: r["subtask"].update(class_members=[[1], [1]]), r"class_members must list different indices"),
        (lambda r: r["subtask"].update(class_members=[[1], [True]]), r"class_members must list the indices"),
        (lambda r: r["subtask"].update(class_members=[[1], [-2]]), r"class_members must list different indices"),
        (lambda r: r["subtask"].update(class_members=[[1], [2]]), r"subtask\.member_names must have a name for each"),
        (
            lambda r: r["subtask"].update(class_members=[[1], [2]], member_names=[["a"], ["b", "c"]]),
            r"subtask\.member_names must have a name for each",
        ),
        (
            lambda r: r["subtask"].update(class_members=[[1], [2]], member_names=[["a"], ["b\x1b"]]),
            r"subtask\.member_names must be strings without control characters",
        ),
        (lambda r: r["preprocess"].update(size=[0, 1]), r"preprocess record does not hold: size is"),
        (lambda r: r["preprocess"].update(crop_fraction=0.5), r"its digest is not that of its fields"),
        (lambda r: r["files"].update(golden="golden.npz"), r"files\.golden must have path, sha256 and bytes"),
        (lambda r: r["files"]["model.fp32"].pop("sha256"), r"files\.model\.fp32 must have path, sha256 and bytes"),
        (lambda r: r["files"]["model.fp32"].update(sha256="abc"), r"sha256 must be 64 hexadecimal digits"),
        (lambda r: r["files"]["model.fp32"].update(sha256="G" * 64), r"sha256 must be 64 hexadecimal digits"),
        (lambda r: r["files"]["model.fp32"].update(bytes=-1), r"bytes is -1; it must be a whole number"),
        (lambda r: r["files"]["model.fp32"].update(bytes=7.0), r"bytes is 7\.0"),
        (lambda r: r["files"]["model.fp32"].update(path=3), r"the path 3 of model\.fp32 leads out"),
    ],
)
def test_damaged_manifests_are_refused(tmp_path: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        open_bundle(_edited(tmp_path / "run", edit))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "manifest.json is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe{", "is not valid JSON"),
        (b'{"kind": "bundle", "schema": NaN}', "is not valid JSON: NaN is not a JSON value"),
        (b'{"kind": "bundle", "schema": -Infinity}', "-Infinity is not a JSON value"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"[]", "is not the manifest of a bundle"),
        (b"null", "is not the manifest of a bundle"),
    ],
)
def test_manifests_that_are_none_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path)


def test_an_oversize_manifest_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as stream:
        stream.truncate(_manifest.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BundleError, match="is larger than the 16777216 bytes a manifest may have"):
        open_bundle(tmp_path)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _bundle(tmp_path)

    def locked(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read: Permission denied"):
        open_bundle(tmp_path)


def test_paths_too_long_for_the_system_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot be read: File name too long|does not exist"):
        open_bundle(tmp_path / ("x" * 5000))
    _edited(tmp_path / "run", lambda r: r["files"]["model.fp32"].update(path="x" * 5000))
    with pytest.raises(
        BundleError, match=r"cannot be read: File name too long|is missing|longer than file systems take"
    ):
        open_bundle(tmp_path / "run")


def test_a_folder_that_vanished_is_named(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(BundleError, match=r"run cannot be read: No such file|is not a bundle"):
        bundle.with_fields(stages={})


def test_a_manifest_elsewhere_is_refused(tmp_path: Path) -> None:
    _bundle(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").symlink_to(tmp_path / "run" / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json leads out of the bundle"):
        open_bundle(tmp_path / "other")


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    _bundle(tmp_path / "flowers-run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"empty is not a bundle: it has no manifest\.json"):
        open_bundle(tmp_path / "empty")
    with pytest.raises(BundleError, match=r"file is a file, not the folder of a bundle\."):
        open_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"flower-run does not exist\. Did you mean flowers-run\?"):
        open_bundle(tmp_path / "flower-run")
    with pytest.raises(BundleError, match=r"run does not exist\. Name the folder of a run"):
        open_bundle(tmp_path / "no" / "run")


@pytest.mark.parametrize(
    ("precision", "role"),
    [
        ("fp32", "model.fp32"),
        ("fp16", "model.fp16"),
        ("int8", "model.int8"),
        ("int8-tensorrt", "model.int8-tensorrt"),
        ("teacher", "teacher.fp32"),
    ],
)
def test_the_role_of_each_precision(precision: str, role: str) -> None:
    assert model_role(precision) == role


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"There is no precision 'int-8'\. Did you mean int8"):
        model_role("int-8")


# Several writers


def _register_many(folder: Path, first: int) -> None:
    bundle = open_bundle(folder, verify=False)
    for number in range(first, first + 10):
        path = folder / f"{number}.bin"
        path.write_bytes(bytes([number]))
        bundle = bundle.with_file(f"role-{number}", path)


def _registered(folder: Path) -> set[str]:
    return {role for role in open_bundle(folder).manifest["files"] if role.startswith("role-")}


def test_threads_that_register_files_lose_none(tmp_path: Path) -> None:
    _bundle(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_register_many, [tmp_path] * 4, [0, 10, 20, 30]))
    assert _registered(tmp_path) == {f"role-{number}" for number in range(40)}


@pytest.mark.skipif(_manifest.fcntl is None, reason="without fcntl other processes are not held off")
def test_processes_that_register_files_lose_none(tmp_path: Path) -> None:
    _bundle(tmp_path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_register_many, args=(tmp_path, first)) for first in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert _registered(tmp_path) == {f"role-{number}" for number in range(20)}


def test_without_file_locks_threads_are_still_held_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_manifest, "fcntl", None)
    _bundle(tmp_path)
    _register_many(tmp_path, 0)
    assert len(_registered(tmp_path)) == 10
