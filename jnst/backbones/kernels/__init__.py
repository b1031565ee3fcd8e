"""Fast forms of a 3x3 convolution, and which of them a device uses."""
