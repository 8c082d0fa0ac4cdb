"""Which sessions have times worth recording."""

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.runtimes.session import STAND_IN, Session


def require_measurable(session: Session) -> None:
    """Raise EdgeDistillError when the session runs through the libraries that stand in for TensorRT's in the tests."""
    if session.provider == STAND_IN:
        raise EdgeDistillError(
            f"{session.model_path.name} runs through the libraries that stand in for TensorRT's in the tests; what they take is no"
            " latency of anything, so none is measured and none recorded."
        )
