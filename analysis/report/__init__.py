"""The report: one self-contained HTML file with charts, tables and a gallery of the costliest errors."""
