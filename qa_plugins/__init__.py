"""Checks on annotations, one file a check, and the report that they share."""
