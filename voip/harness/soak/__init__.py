"""Weeks of random calls in a simulated world: all of them end, and nothing is left of them."""
