"""One QA result as a page, as JSON and as a table."""
