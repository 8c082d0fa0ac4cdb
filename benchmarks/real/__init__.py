"""Evidence on photographs: a data set from Debian's packages, real ImageNet teachers, and a grid of comparisons."""
