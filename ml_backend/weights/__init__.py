"""The built-in small SAM: its weights, and the scripts that make and measure them."""
