"""Images for training: splits that cannot leak, augmentation, and the loader."""
