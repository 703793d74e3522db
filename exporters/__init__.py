"""The exporters of segstudio: one file a format, found through `segstudio.exporters`."""
