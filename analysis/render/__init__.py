"""Results as tables and figures, for terminals, papers, spreadsheets and programs."""
