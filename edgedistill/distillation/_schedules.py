"""What changes from step to step: the learning rate, and the weight of the layer term."""

import math

from edgedistill.config import DistillConfig

WARMUP_FRACTION = 0.1
RISE_FRACTION = 0.2


def learning_rate_at(step: int, steps: int, config: DistillConfig) -> float:
    """Return the learning rate of one step out of `steps` of the whole run."""
    done = step / steps
    if config.schedule == "constant":
        return config.peak_rate
    if config.schedule == "step":
        return config.peak_rate * 0.5 ** math.floor(4 * done)
    warmup = WARMUP_FRACTION if config.warmup is None else config.warmup
    if done < warmup:
        return config.peak_rate * (step + 1) / math.ceil(warmup * steps)
    return config.peak_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def layer_weight_at(step: int, steps: int, config: DistillConfig) -> float:
    """Return the factor, from 0 to 1, on lambda_layer at one step out of `steps` of the whole run."""
    done = step / steps
    if config.lambda_schedule == "rise":
        return min(1.0, done / RISE_FRACTION)
    if config.lambda_schedule == "fall":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0
