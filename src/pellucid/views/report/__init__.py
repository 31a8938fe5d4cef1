"""The report: one HTML page with every view of a text."""
