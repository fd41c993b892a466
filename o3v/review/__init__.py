"""Reviews finished runs: recomputes their numbers, compares two runs, publishes one as a static site."""
