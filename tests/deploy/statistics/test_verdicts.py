import pytest

from edgedistill_deploy.statistics.verdicts import VERDICTS, worst_verdict


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "fail"),
        ([], "pass"),
    ],
)
def test_the_worst_verdict_decides(verdicts: list[str], worst: str) -> None:
    assert worst_verdict(verdicts) == worst


def test_one_verdict_is_its_own_worst() -> None:
    assert [worst_verdict([each]) for each in VERDICTS] == list(VERDICTS)
