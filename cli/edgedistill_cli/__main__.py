"""`python -m edgedistill_cli`, which `accelerate launch -m edgedistill_cli` starts too."""

from edgedistill_cli.app import main

main()
