"""The answer of a study: AP, errors and cost of every variant, on screen, as files, figures and a page."""
