"""The verified folder that travels to the device.

Doors: `folder` creates and opens it. `manifest` is the file that lists the others with their hashes. `precisions` says
which file a runtime takes for a precision. `reference` is the teacher's recorded answers. `expectation` is what each
model file gave for the golden inputs when it was made.
"""
