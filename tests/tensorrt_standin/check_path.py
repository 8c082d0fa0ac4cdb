"""The adapter's whole path: build, prove, keep, load, run, profile. Over the stand-in, and the same on a real GPU.

`tests/deploy/runtimes/tensorrt/test_standin.py` runs these functions in processes where `import tensorrt` gives the
stand-in of one major version; `tests/deploy/runtimes/tensorrt/test_gpu.py` runs them where TensorRT is real.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.latency.layer_times import measure_layers
from edgedistill_deploy.parity.metamorphic import check_relations
from edgedistill_deploy.progress import silent
from edgedistill_deploy.runtimes.engine_options import EngineOptions
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session, TensorSpec
from edgedistill_deploy.runtimes.tensorrt.session import TensorRtSession
from tensorrt_standin.models import WEIGHTED_NODES, images, write_network

# Largest difference of the logits, which are about 1: on a GPU sums are added up in another order, and fp16 has 11
# bits.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2}


def opened(path: Path, precision: str = "fp32", **options: Any) -> TensorRtSession:
    progress = options.pop("progress", silent)
    engine = EngineOptions(cache=path.parent / "cache", **options)
    session: Session = open_model(path, precision=precision, runtime="tensorrt", engine=engine, progress=progress)
    assert isinstance(session, TensorRtSession)
    return session


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "m.onnx")


@pytest.fixture
def session(network: Path) -> Iterator[TensorRtSession]:
    with opened(network) as session:
        yield session


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("count", [1, 7, 64])
def test_outputs_are_those_of_onnx_runtime(tmp_path: Path, precision: str, count: int) -> None:
    path = write_network(tmp_path / "m.onnx", precision)
    pixels = {"image": images(count, seed=count)}
    with open_model(path, precision=precision) as reference, opened(path, precision) as session:
        wanted, got = reference.run(pixels), session.run(pixels)
    np.testing.assert_allclose(got["logits"], wanted["logits"], atol=TOLERANCES[precision])
    assert (got["logits"].dtype.name, got["in_domain"].dtype.name) == ("float32", "bool")
    far = np.abs(wanted["logits"].max(axis=1) - 0.2) > TOLERANCES[precision]
    np.testing.assert_array_equal(got["in_domain"][far], wanted["in_domain"][far])


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_inspector_proves_the_precision_of_every_weighted_layer(tmp_path: Path, precision: str) -> None:
    with opened(write_network(tmp_path / "m.onnx", precision), precision) as session:
        record = session.engine_record
    assert record["proof"]["verdict"] == "proven"
    assert set(record["proof"]["as_said"]) == set(WEIGHTED_NODES)
    assert {node for layer in record["layers"] for node in layer["nodes"]} >= set(WEIGHTED_NODES)


def test_a_session_says_what_it_runs(session: TensorRtSession, network: Path) -> None:
    assert session.inputs == (TensorSpec("image", (None, 8, 8, 3), "uint8"),)
    assert session.outputs == (TensorSpec("logits", (None, 3), "float32"), TensorSpec("in_domain", (None,), "bool"))
    assert (session.runtime, session.precision, session.threads) == ("tensorrt", "fp32", 1)
    assert session.model_sha256 == sha256_of_file(network)
    assert session.load_ms > 0


def test_the_second_session_takes_the_engine_from_the_cache(network: Path) -> None:
    told: list[tuple[int, int, str]] = []
    with opened(network, progress=lambda done, total, note="": told.append((done, total, note))) as first:
        pass
    assert (first.engine_record["cached"], first.engine_record["rebuilt_because"]) == (False, None)
    shares = [done / total for done, total, _ in told]
    assert shares[0] == 0
    assert 0.9 < max(shares) <= 1
    told.clear()
    with opened(network, progress=lambda done, total, note="": told.append((done, total, note))) as second:
        answers = second.run({"image": images(2)})
    assert second.engine_record["cached"]
    assert second.engine_record["path"] == first.engine_record["path"]
    assert not told
    assert answers["logits"].shape == (2, 3)


def test_every_option_and_every_model_has_an_engine_of_its_own(tmp_path: Path, network: Path) -> None:
    paths = set()
    for each in ({}, {"max_batch": 8}, {"opt_batch": 4}, {"tf32": True}, {"workspace_bytes": 1 << 20}):
        with opened(network, **each) as session:
            paths.add(session.engine_record["path"])
    with opened(write_network(tmp_path / "m.onnx", "fp16"), "fp16") as session:
        paths.add(session.engine_record["path"])
    assert len(paths) == 6


def test_the_engine_is_the_plain_plan_with_a_sidecar(session: TensorRtSession, network: Path) -> None:
    import tensorrt as trt

    path = Path(session.engine_record["path"])
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(path.read_bytes())
    assert engine.get_tensor_name(0) == "image"
    record = json.loads(path.with_suffix(".json").read_bytes())
    assert record["engine"] == {"sha256": sha256_of_file(path), "bytes": path.stat().st_size}
    assert record["onnx"] == {"name": "m.onnx", "sha256": sha256_of_file(network)}
    assert record["tensorrt"] == trt.__version__
    assert record["options"]["max_batch"] == 64


def test_kernel_times_are_kept_for_the_next_build(network: Path) -> None:
    with opened(network):
        pass
    kept = list((network.parent / "cache").glob("timing-*.cache"))
    assert len(kept) == 1
    first = kept[0].read_bytes()
    with opened(network, max_batch=8):
        pass
    assert first
    assert len(kept[0].read_bytes()) >= len(first)


def test_a_timing_cache_that_is_none_is_not_in_the_way(network: Path) -> None:
    with opened(network):
        pass
    cache = next((network.parent / "cache").glob("timing-*.cache"))
    cache.write_bytes(b"of something else")
    with opened(network, max_batch=8) as session:
        assert session.run({"image": images(1)})["logits"].shape == (1, 3)
    assert cache.read_bytes() != b"of something else"


def test_batches_outside_the_range_are_refused(network: Path) -> None:
    with opened(network, min_batch=2, opt_batch=2, max_batch=4) as session:
        assert session.run({"image": images(4)})["logits"].shape == (4, 3)
        for count in (1, 5):
            with pytest.raises(
                EdgeDistillError,
                match=(
                    rf"m\.onnx was built for 2 to 4 images a run and was given {count}; build it "
                    r"with another --min-batch"
                ),
            ):
                session.run({"image": images(count)})


@pytest.mark.parametrize(
    ("feeds", "given"),
    [
        ({"image": images(2).astype(np.float32)}, r"image float32 \(2, 8, 8, 3\)"),
        ({"image": images(2)[:, :4]}, r"image uint8 \(2, 4, 8, 3\)"),
        ({"image": images(2)[0]}, r"image uint8 \(8, 8, 3\)"),
        ({"picture": images(2)}, r"picture uint8 \(2, 8, 8, 3\)"),
        ({"image": images(2), "mask": images(1)}, r"image uint8 .* and mask uint8 \(1, 8, 8, 3\)"),
        ({}, "nothing"),
    ],
)
def test_wrong_feeds_say_what_was_expected_and_given(
    session: TensorRtSession, feeds: dict[str, Any], given: str
) -> None:
    with pytest.raises(
        EdgeDistillError, match=rf"failed on TensorRT: it takes image uint8 \(any, 8, 8, 3\) and was given {given}\.$"
    ):
        session.run(feeds)


def test_images_that_are_not_contiguous_are_read_rightly(session: TensorRtSession) -> None:
    pixels = images(8)
    wanted = session.run({"image": np.ascontiguousarray(pixels[::2])})
    np.testing.assert_array_equal(session.run({"image": pixels[::2]})["logits"], wanted["logits"])


def test_the_metamorphic_relations_hold_two_threads_among_them(session: TensorRtSession) -> None:
    found = check_relations(session, images(6))
    assert {each.name for each in found} >= {"two_threads"}
    assert [each.detail for each in found if not each.passed] == []


def test_threads_do_not_mix_up_each_others_batches(session: TensorRtSession) -> None:
    batches = [images(size, seed=size) for size in (1, 3, 9, 2, 5, 4, 8, 6)]
    wanted = [session.run({"image": batch})["logits"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda batch: session.run({"image": batch})["logits"], batches))
    for one, other in zip(wanted, got, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_layers_become_a_record_of_nodes(session: TensorRtSession) -> None:
    record = measure_layers(session, {"image": images(1)}).to_json()
    assert record["layer_run"]["source"] == "TensorRT's profiler"
    assert record["layer_run"]["outside_ms"] is None
    assert sum(node["share"] for node in record["layers"]) == pytest.approx(1.0)
    assert "Conv" in {node["op_type"] for node in record["layers"]}


def test_layers_are_timed_run_by_run(session: TensorRtSession) -> None:
    layers = session.layer_times({"image": images(3)}, 4)
    assert all(len(layer.samples_ms) == 4 and min(layer.samples_ms) >= 0 for layer in layers)
    assert any("conv_2" in layer.name for layer in layers)
    with pytest.raises(UsageError, match=r"runs is 0; it must be 1 or more"):
        session.layer_times({"image": images(1)}, 0)
    assert session.run({"image": images(1)})["logits"].shape == (1, 3)


def test_a_closed_session_runs_no_more(network: Path) -> None:
    with opened(network) as session:
        pass
    with pytest.raises(EdgeDistillError, match=r"The session of m\.onnx is closed; open it again"):
        session.run({"image": images(1)})
    session.__exit__(None, None, None)


def test_an_operator_that_tensorrt_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    path = write_network(tmp_path / "m.onnx", plugin=True)
    with pytest.raises(
        EdgeDistillError, match=r"TensorRT 1[01]\.[\d.]+ cannot parse m\.onnx: .*sparkle.*Sparkle"
    ) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*.engine"))


class _EnoughError(Exception):
    pass


def test_an_exception_out_of_the_progress_ends_the_build(network: Path) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done > 0:
            raise _EnoughError

    with pytest.raises(_EnoughError):
        opened(network, progress=stop)
    assert not list(network.parent.glob("cache/*.engine"))


def test_an_engine_is_loaded_from_a_file_of_ones_own(network: Path, tmp_path: Path) -> None:
    with opened(network) as session:
        source = Path(session.engine_record["path"])
        wanted = session.run({"image": images(2)})
    moved = source.rename(tmp_path / "mine.engine")
    source.with_suffix(".json").rename(tmp_path / "mine.json")
    with opened(network, file=moved) as session:
        np.testing.assert_allclose(session.run({"image": images(2)})["logits"], wanted["logits"], atol=1e-5)
        assert session.engine_record["path"] == str(moved)
    assert not list(network.parent.glob("cache/*.engine"))


def test_a_version_compatible_engine_runs_where_it_is_trusted(network: Path) -> None:
    with opened(network, version_compatible=True) as session:
        path = Path(session.engine_record["path"])
        assert session.run({"image": images(1)})["logits"].shape == (1, 3)
    with opened(network, version_compatible=True) as session:
        assert session.engine_record["cached"]
    with pytest.raises(
        EdgeDistillError, match=r"carries code that would run here; if you trust .* --version-compatible"
    ):
        opened(network, file=path)


def test_a_model_of_a_fixed_batch_size_needs_no_profile(tmp_path: Path) -> None:
    path = write_network(tmp_path / "m.onnx", batch=2)
    with opened(path) as session, open_model(path, precision="fp32") as reference:
        assert session.inputs[0].shape == (2, 8, 8, 3)
        wanted = reference.run({"image": images(2)})["logits"]
        np.testing.assert_allclose(session.run({"image": images(2)})["logits"], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"provider": "openvino"}, r"TensorRT runs on the GPU, not on openvino; leave the provider out"),
        ({"optimised": False}, r"TensorRT cannot run a graph as it is written"),
    ],
)
def test_what_tensorrt_cannot_do_is_refused(network: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_model(network, precision="fp32", runtime="tensorrt", **options)
