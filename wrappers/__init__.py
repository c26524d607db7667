"""Wrappers that change observations or actions, or log episodes."""
