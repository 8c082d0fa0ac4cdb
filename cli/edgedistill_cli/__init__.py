"""The `edgedistill` command."""

# The stages of a build, in order.
STAGES = ("distill", "export", "calibrate", "validate", "profile", "report")
