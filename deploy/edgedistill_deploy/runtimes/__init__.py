"""A model opened and run, whatever runs it.

Doors: `opening` opens a model of a bundle or a bare file, `session` is what is opened, `logits` asks it for its
answers, `providers` names the back ends of ONNX Runtime, `int8_kernels` tells whether its INT8 kernels are exact here,
`engine_options` says how TensorRT builds. The runtimes themselves stay behind `session`.
"""
