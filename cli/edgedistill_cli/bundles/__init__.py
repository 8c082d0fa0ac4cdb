"""Work on a finished bundle, without training.

Doors: `validating` checks parity, `decisions` shows single decisions, `profiling` measures latency, `devices` does both
on devices, `bisecting` finds the first node that differs, `engines` builds TensorRT engines, `recording` says where
records go. `tasks` is what two commands do with each bundle that they are given, `several` joins the results.
"""
