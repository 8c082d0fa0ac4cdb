"""How long the tests of devices measure."""

from edgedistill_deploy.latency.measurement import LatencyConfig

BRIEF = LatencyConfig(duration_s=0.05, warmup_s=0, warmup_runs=1, min_runs=3)
LONG = LatencyConfig(duration_s=60, warmup_s=0)
