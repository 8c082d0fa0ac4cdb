"""The whole pipeline from Python: teacher, subtask, student, distillation, bundle, INT8, parity, latency, report."""

import edgedistill as ed
import edgedistill_deploy as device
from edgedistill_calibration import calibrate

teacher = ed.load_teacher("embedded:glyphs100")
subtask = teacher.subtask(list("0123456789"))
images = ed.split_for_subtask(ed.open_source("embedded:digits"), subtask.class_names)
student = ed.build_student("timm:resnet10t", len(subtask), width=0.1875)
result = ed.distill(teacher, student, subtask, images, ed.DistillConfig(epochs=1, augment="crop"))
exported = ed.export_onnx(result.student, teacher, subtask, images.evaluation, "quickstart")
bundle, sample = calibrate(exported, images.train), teacher.preprocess.apply(images.evaluation.read(0))
for precision in ("fp32", "int8"):
    with device.open_session(bundle, precision=precision) as session:
        device.write_parity(bundle, device.check_parity(bundle, session))
        device.write_latency(bundle, device.measure_latency(session, sample[None]))
print(device.write_report(bundle))
