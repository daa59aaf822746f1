"""The agent killed at random, crashed at every call, and as a fleet."""
