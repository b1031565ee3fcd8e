"""Train a small classifier, or distil large networks into a small one."""
