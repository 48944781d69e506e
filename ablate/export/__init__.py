"""Run configs in the language of other frameworks."""
