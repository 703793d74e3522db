"""The whole of segstudio at work on this machine: `segstudio demo`."""
