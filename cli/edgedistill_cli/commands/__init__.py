"""One command a file; each imports what it needs when it runs.

`COMMANDS` lists them as `edgedistill --help` does: with what each is for, so that none is imported to say it.
"""

COMMANDS = {
    "demo": "Distil ten digits out of a 100-character teacher, export, quantise, check, profile and report: no network.",
    "init": "Write a commented settings file.",
    "build": "Distil, export, calibrate, validate, profile, report: one command, one folder, resumable.",
    "distill": "Train the student: the first stage of build, alone.",
    "export": "Export the distilled student (and the teacher beside it) to ONNX, checked against torch on real images.",
    "calibrate": "Write the student in FP16 and INT8, with ranges from training images, and record what each step costs.",
    "ledger": "Show what each step from the teacher to INT8 cost, which nodes cost most, and what leaving some in float bought.",
    "validate": "Compare the exported models with their teacher on the subtask, on this machine or on devices over SSH.",
    "profile": "Measure latency, throughput and memory of the bundle's models on this machine, or on devices over SSH.",
    "engine": "Build a TensorRT engine on this device, or take it from the cache, and show what precision its layers really have.",
    "inspect": "Show the subspaces of the teacher's layers: spectra, its accuracy on K directions, the widths a student needs.",
    "plan": "Time untrained students on a device, and name those worth distilling: within the budget, and no faster one as large.",
    "compare": "Compare SubDistill with other ways to train the same student, on the same images and with the same budget.",
    "report": "Write report.html: one self-contained file with every figure of the run.",
    "doctor": "Say what this machine can run, what is missing, and the command that installs it. Installs nothing.",
    "devices": "The devices of devices.toml: add, list, check and remove them.",
}
# The commands that do not stand in a file of their own name.
MODULES = {"build": "training", "distill": "training"}
