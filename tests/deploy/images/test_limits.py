import numpy as np

from edgedistill_deploy.images.golden import LIMIT_NAMES, limit_images


def test_the_limits_are_flat_images_at_the_ends_and_the_same_noise_every_time() -> None:
    images = dict(zip(LIMIT_NAMES, limit_images((6, 9)), strict=True))
    noise = images.pop("noise")
    assert {name: set(map(tuple, image.reshape(-1, 3).tolist())) for name, image in images.items()} == {
        "black": {(0, 0, 0)},
        "white": {(255, 255, 255)},
        "grey": {(128, 128, 128)},
        "red": {(255, 0, 0)},
        "green": {(0, 255, 0)},
        "blue": {(0, 0, 255)},
    }
    assert noise.shape == (6, 9, 3)
    assert noise.std() > 50
    assert np.array_equal(limit_images((6, 9))[-1], noise)
