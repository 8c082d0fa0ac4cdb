"""The whole pipeline from Python: teacher, subtask, student, distillation, bundle, INT8, parity, latency, report."""

from pathlib import Path

from edgedistill import (
    DistillConfig,
    build_student,
    distill,
    export_onnx,
    load_teacher,
    open_source,
    split_for_subtask,
)
from edgedistill_calibration import calibrate
from edgedistill_deploy import (
    check_parity,
    measure_latency,
    open_session,
    write_latency,
    write_parity,
    write_report,
)

teacher = load_teacher("embedded:glyphs100")
subtask = teacher.subtask(list("0123456789"))
images = split_for_subtask(open_source("embedded:digits"), subtask.class_names)
student = build_student("timm:resnet10t", len(subtask), width=0.1875)
result = distill(teacher, student, subtask, images, DistillConfig(epochs=1, augment="crop"))
bundle = export_onnx(result.student, teacher, subtask, images.evaluation, Path("quickstart"))
bundle = calibrate(bundle, images.train)
sample = teacher.preprocess.apply(images.evaluation.read(0))[None]
for precision in ("teacher", "fp32", "int8"):
    with open_session(bundle, precision=precision) as session:
        print(write_parity(bundle, check_parity(bundle, session)))
        print(write_latency(bundle, measure_latency(session, sample)))
print(write_report(bundle))
