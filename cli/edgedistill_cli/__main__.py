"""`python -m edgedistill_cli`, which is what `accelerate launch -m edgedistill_cli` starts."""

from edgedistill_cli.app import main

main()
