"""What ``scripts/bench`` measures, a module a verb: ``read``, and the run of kills beside it."""
