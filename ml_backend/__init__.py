"""The interactive segmentation server that Label Studio asks for masks."""
