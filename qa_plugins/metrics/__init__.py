"""Pure functions on masks and counts: no I/O, no Label Studio."""
