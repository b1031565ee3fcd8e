"""Networks trained here: a classifier of our own, and small copies of large networks."""
