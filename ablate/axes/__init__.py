"""The factors that can be studied, one small file each; command line, help and tables follow from ``AXES``."""
