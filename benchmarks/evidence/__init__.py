"""Does SubDistill train better experts than its rivals? Real data, several seeds, every run's record kept."""
