"""Studies: an axis, a base and seeds become runs on disk, checked for control, with what was published about them."""
