"""Programs that benchmarks run in processes of their own, so that nothing else is in the memory or time measured."""
