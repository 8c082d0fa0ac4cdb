import pytest

from edgedistill.checks import check_pairs
from edgedistill.config import DistillConfig
from edgedistill.export.config import ExportConfig
from edgedistill_deploy.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be a number of at least 1, and 0 was given"),
        ({"epochs": "many"}, "epochs cannot be 'many'"),
        ({"learning_rate": -1.0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"weight_decay": float("inf")}, "weight_decay must be a number of at least 0"),
        ({"schedule": "cosin"}, "schedule cannot be 'cosin'. Did you mean cosine"),
        ({"method": "PRCA"}, "method cannot be 'PRCA'"),
        ({"warmup": 1.0}, "warmup is a share of the steps, at least 0 and below 1, such as 0.1, and 1.0 was given"),
        ({"warmup": float("nan")}, "warmup is a share"),
        ({"augment": "mixup"}, "augment cannot be 'mixup'"),
        ({"lambda_kd": 0, "lambda_layer": 0}, "leaves nothing to learn from"),
    ],
)
def test_settings_are_checked_when_made(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistillConfig(**settings)  # type: ignore[arg-type]


def test_what_is_left_to_the_device_leaves_keys_as_they_were() -> None:
    """A checkpoint of before `auto`, and one of another device, are those of the same run."""
    plain = DistillConfig(mixed_precision="no", channels_last=False)
    assert DistillConfig().deciding() == plain.deciding()
    assert DistillConfig(mixed_precision="bf16").deciding() != plain.deciding()
    assert DistillConfig(channels_last=True).deciding() != plain.deciding()
    on_gpu = DistillConfig().for_device(mixed_precision="bf16", channels_last=True)
    assert (on_gpu.mixed_precision, on_gpu.channels_last) == ("bf16", True)
    assert plain.for_device(mixed_precision="bf16", channels_last=True) == plain
    with pytest.raises(UsageError, match="channels_last cannot be 'yes'"):
        DistillConfig(channels_last="yes")  # type: ignore[arg-type]


def test_an_opset_that_is_not_written_is_refused() -> None:
    for opset in (12, 26):
        with pytest.raises(UsageError, match=f"opset must be a whole number from 13 to 25, and {opset} was"):
            ExportConfig(opset=opset)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "x"), ("b", "y"), ("a", "z")], "The teacher's layer 'a' stands in 2 pairs"),
        ([("a", "x"), ("b", "x")], "The student's layer 'x' stands in 2 pairs"),
    ],
)
def test_a_layer_in_two_pairs_is_refused(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_pairs(pairs)


def test_a_layer_may_have_the_same_name_on_both_sides_and_there_may_be_no_pairs() -> None:
    check_pairs([("a", "b"), ("b", "a")])
    check_pairs([])
