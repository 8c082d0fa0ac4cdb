"""The `edgedistill` command."""
