"""From torch to ONNX and the bundle.

Doors: `bundle` begins a bundle and exports into it, `config` has the settings, `deployed` is a model as it runs on a
device, `onnx_writing` writes and checks a file, `onnx_targets` knows what a target reads, `any_size` writes files that
take images of any size, `timm_folder` writes a student as timm's own models are kept.
"""
