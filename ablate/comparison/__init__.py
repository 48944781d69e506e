"""Every variant of a study against its baseline, with intervals."""
