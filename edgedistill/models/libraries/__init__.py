"""Teachers of each library, as `models.teacher` asks for them.

Doors: `timm_models`, `torchvision_models`, `transformers_models` and `own_code` each load a model and say what its
library says about it, as the `found` value; `inputs` has networks with other inputs and outputs, `messages` cuts the
errors of libraries.
"""
