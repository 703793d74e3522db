"""The batch loop, composed of the other rooms: what surrounds the drawing of a batch."""
