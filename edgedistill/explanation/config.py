"""Settings of an explanation, without torch, so that they can be refused before anything heavy is loaded."""

INTEGRATED_GRADIENTS, LRP, ATTENTION, AUTO = "integrated-gradients", "lrp", "attention", "auto"
METHODS = (INTEGRATED_GRADIENTS, LRP, ATTENTION)
