"""EdgeDistill: from a large image classifier and a few of its classes to a compact expert on a device."""
