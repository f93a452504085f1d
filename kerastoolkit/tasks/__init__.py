"""One file per task: what is asked of a network, and how its answers are scored, told and drawn."""
