"""The report of a built target: one HTML page that needs nothing else, and its Markdown twin for pull requests."""
