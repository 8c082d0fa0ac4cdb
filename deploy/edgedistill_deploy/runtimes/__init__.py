"""A model opened and run by any runtime.

Doors: `opening` opens a model of a bundle or a bare file. `session` is an open model. `logits` gets its answers.
`providers` names the back ends of ONNX Runtime. `int8_kernels` checks whether its INT8 kernels are exact here.
`engine_options` says how TensorRT builds. The runtimes themselves are behind `session`.
"""
